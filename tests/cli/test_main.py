import io
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from swinv2 import __version__


def test_help_lists_the_verbs(swinv2: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = swinv2("--help")
    assert status == 0
    assert re.findall(r"^  (\w+)  +\w", out.split("verbs:")[1], re.MULTILINE) == list(swinv2_verbs())


def swinv2_verbs() -> dict[str, str]:
    return sys.modules["swinv2.cli"].VERBS


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["predict", "--help"]])
def test_help_is_quick_as_it_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom swinv2.cli import main\n"
        f"try: main({arguments})\nexcept SystemExit: pass\n"
        "print('heavy:', {'torch', 'lightning', 'timm', 'matplotlib', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: swinv2" in done.stdout
    assert "heavy: set()" in done.stdout


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "swinv2", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def test_an_unknown_verb_is_refused(swinv2: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = swinv2("trian")
    assert status == 2
    assert "'trian'" in err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("epochs 0: use more."), 2, "swinv2: error: epochs 0: use more.\n"),
        (PermissionError(13, "Permission denied", "runs"), 2, "swinv2: error: [Errno 13] Permission denied: 'runs'\n"),
        (KeyboardInterrupt("go on with: x"), 130, "swinv2: go on with: x\n"),
        (KeyboardInterrupt(), 130, "swinv2: stopped by Ctrl-C\n"),
        (
            ModuleNotFoundError("No module named 'lightning'", name="lightning"),
            2,
            "swinv2: error: lightning is missing: install it with pip install 'swinv2[train]'.\n",
        ),
    ],
)
def test_errors_become_one_line_and_a_status(
    swinv2: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    message: str,
) -> None:
    import swinv2.cli.models as verb

    def fail(arguments: object) -> None:
        raise error

    monkeypatch.setattr(verb, "main", fail)
    assert swinv2("models") == (status, "", message)


def test_our_own_mistakes_are_not_hidden(
    swinv2: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(swinv2_verbs(), "nothing", "a verb without a module")
    with pytest.raises(ModuleNotFoundError, match=r"swinv2\.cli\.nothing"):
        swinv2("nothing")


def test_a_closed_pipe_is_no_error() -> None:
    """The reader has gone before the output leaves Python's buffer."""
    command = f"{sys.executable} -m swinv2 models | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ}, check=True)
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


def test_names_that_are_no_text_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    import swinv2.cli
    import swinv2.cli.models as verb

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    monkeypatch.setattr(verb, "main", lambda _: print("caf\u00e9 \udcff"))
    assert swinv2.cli.main(["models"]) == 0
    assert raw.getvalue().decode() == "caf\u00e9 \\udcff\n"
