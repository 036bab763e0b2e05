"""What runs providers: bundles found and read, the worker that holds an author's code, and who supervises it."""
