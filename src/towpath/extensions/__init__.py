"""Extensions that come with Towpath. They use nothing that any author could not use."""
