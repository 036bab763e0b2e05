"""The Lab's web servers may serve a folder: what registries, mirrors and git hosts are imitated with."""

from __future__ import annotations

from pathlib import Path

from towpath.testing import Lab
from towpath.testing.plan import Http, LabPlan


def test_files_of_a_folder_are_served_and_nothing_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    (folder / "@scope").mkdir(parents=True)
    (folder / "index.html").write_text("the page")
    (folder / "@scope" / "name").write_text("a package")
    (tmp_path / "secret").write_text("secret")
    plan = LabPlan().host("client").host("web", serves=[Http(names=("web.test",), folder=str(folder))])
    with Lab(plan) as lab:

        def get(path: str) -> str:
            words = ["curl", "-sS", "--path-as-is", "-w", " %{http_code}", f"http://{lab['web'].address4}{path}"]
            return str(lab["client"].run(words).stdout)

        assert get("/") == "the page 200"
        assert get("/@scope%2fname") == "a package 200"
        assert get("/../secret") == get("/%2e%2e/secret") == get("/none") == get("/@scope") == " 404"
        (folder / "later").write_text("later")
        assert get("/later?query") == "later 200"
