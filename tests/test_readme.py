"""What the README files say: every command in them is one, and every link leads somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from harness.cli.app import app
from harness.cli.examples import EXAMPLES
from harness.config import library
from harness.records import record, snapshot
from tests import pictures
from tests.rooms import ROOT

DOCUMENTS = sorted(
    file.relative_to(ROOT)
    for pattern in ("README.md", "CONTRIBUTING.md", "*/README.md", "reports/measured/*/README.md")
    for file in ROOT.glob(pattern)
)
BEFORE = ("srun", "torchrun")  # what may start a command
LITERAL = (
    "pip install -c constraints.txt -e . && detbench run studies/quickstart.yaml",
    "pip install tox && tox",
)
ENDS = {"&&", "||", "|", ";"}


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def lines(text: str) -> Iterator[str]:
    """Yield the lines of the blocks of bash, those that go on joined."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each command of ours that stands in a block."""
    for line in lines(text):
        words = shlex.split(line, comments=True)
        while words:
            cut = next((i for i, word in enumerate(words) if word in ENDS), len(words))
            one, words = words[:cut], words[cut + 1 :]
            start = "harness.cli" if one[:1] == ["torchrun"] else "detbench"
            if start in one and (one[0] == start or one[0] in BEFORE):
                yield one[one.index(start) + 1 :]


def found(words: list[str]) -> tuple[str, Any, list[str]]:
    """Return the name of a subcommand, what it is, and what follows its name."""
    command: Any = get_command(app)
    names: list[str] = []
    while hasattr(command, "commands"):
        assert words, f"detbench {' '.join(names)}: no subcommand"
        assert words[0] in command.commands, (
            f"there is no `detbench {' '.join([*names, words[0]])}`"
        )
        command, words = command.commands[words[0]], words[1:]
        names.append(command.name)
    return " ".join(names), command, words


def check(words: list[str]) -> None:
    """Parse a command as far as it can be without carrying it out; fail if it is none."""
    name, command, rest = found(words)
    command.make_context(name, list(rest))
    if name == "run" and re.fullmatch(r"[a-z_/]+", rest[0]):
        library.find(rest[0])


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_can_be_parsed(document: Path) -> None:
    for words in commands(text_of(document)):
        if words[0] != "--install-completion":
            check(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_within_a_line_has_its_options(document: Path) -> None:
    """It may lack arguments, and its name may stand for all that it does."""
    for quoted in re.findall(r"`detbench ([^`]+)`", text_of(document)):
        words = " ".join(quoted.split()).partition(" # ")[0].split()
        if words[0].startswith("-"):
            continue
        _, command, rest = found(words)
        known = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= known, quoted


def test_commands_were_found() -> None:
    """And those that moved out of the first page are still looked at."""
    counted = {
        document.as_posix(): len(list(commands(text_of(document)))) for document in DOCUMENTS
    }
    assert counted["README.md"] >= 15
    assert counted["harness/README.md"] >= 18
    assert counted["studies/README.md"] >= 8
    assert counted["detectors/README.md"] >= 5


def test_what_is_no_command_is_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        check(["run", "quickstart", "--no-such-thing"])
    with pytest.raises(AssertionError, match="there is no `detbench rum`"):
        check(["rum"])
    with pytest.raises(Exception, match="did you mean quickstart"):
        check(["run", "quickstrt"])


def test_the_two_commands_stand_as_they_are() -> None:
    assert [line for line in lines(text_of(Path("README.md"))) if line in LITERAL] == [*LITERAL]


def test_the_readme_is_for_somebody_in_a_hurry() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    folder = (ROOT / document).parent
    targets = re.findall(r"\]\(([^)#\s]+)", text_of(document))
    gone = [link for link in targets if "://" not in link and not (folder / link).exists()]
    assert gone == []


def test_pictures_of_pages_are_made_from_records_that_are_here() -> None:
    folders = pictures.folders()
    assert ROOT / "reports" / "measured" / "epyc-2-cores" / "quickstart" in folders
    told = text_of(Path("reports/measured/README.md"))
    for folder in pictures.studies():
        known = snapshot.load(folder)
        assert known is not None
        assert {item.trial for item in record.read_all(folder)} == set(known.trials)
    for folder in folders:
        picture = folder.with_suffix(".png")
        assert picture.is_file(), "python -m tests.pictures makes it"
        assert f"`{picture.parent.name}/{picture.name}`" in told
    assert "`python -m tests.pictures`" in told


def test_each_help_ends_with_examples_that_can_be_parsed() -> None:
    def names(command: Any, *before: str) -> Iterator[tuple[str, Any]]:
        for name, item in getattr(command, "commands", {}).items():
            yield from names(item, *before, name)
        if not hasattr(command, "commands"):
            yield " ".join(before), command

    seen = dict(names(get_command(app)))
    assert set(seen) == set(EXAMPLES)
    for name, command in seen.items():
        assert command.epilog == EXAMPLES[name]
        for example in command.epilog.removeprefix("Example: ").split("; or: "):
            words = shlex.split(example)
            assert words[0] == "detbench"
            assert " ".join(words[1:]).startswith(name)
            check(words[1:])
