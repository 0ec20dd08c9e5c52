"""Every command of docs/operations.md, in the order of the page, on a folder of the test's own."""

import re

from tests.fakes.served import ROOT

COMMAND = re.compile(r"^    flask (.*)$", re.MULTILINE)
ANSWERS = {"restore": "y\n"}


def test_every_command_of_the_page_runs(lite, tmp_path):
    commands = COMMAND.findall((ROOT / "docs/operations.md").read_text(encoding="utf-8"))
    assert {command.split()[0] for command in commands} == {
        "doctor",
        "backup",
        "restore",
        "ledger",
        "audit",
        "db",
        "keys",
        "usage",
    }
    run = lite.test_cli_runner().invoke
    for command in commands:
        arguments = command.replace("/var/backups", str(tmp_path)).split()
        result = run(args=arguments, input=ANSWERS.get(arguments[0]))
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert (tmp_path / "tollhouse-1.backup").exists()
