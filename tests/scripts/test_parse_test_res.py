"""parse_test_res.py on handwritten logs, compared with numbers computed by hand."""

import tracemalloc
from pathlib import Path

import pytest

import parse_test_res as script

RESULT = """=> result
* total: 1,000
* correct: {correct}
* accuracy: {accuracy}%
* error: {error}%
* macro_f1: {f1}%
"""


def write_log(folder: Path, *accuracies: float, trained: bool = True, before: str = "") -> None:
    text = before + ("Finish training\n" if trained else "")
    for accuracy in accuracies:
        text += RESULT.format(
            correct=int(10 * accuracy), accuracy=accuracy, error=100 - accuracy, f1=accuracy - 1
        )
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text(text)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_seeds_and_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, accuracy in ((10, 86.0), (1, 80.0), (2, 83.0)):
        write_log(tmp_path / f"seed{seed}", accuracy)
    assert script.main([str(tmp_path)]) == 0
    assert lines(capsys) == [
        f"Parsing files in {tmp_path}",
        f"file: {tmp_path}/seed1/log.txt. accuracy: 80.00%.",
        f"file: {tmp_path}/seed2/log.txt. accuracy: 83.00%.",
        f"file: {tmp_path}/seed10/log.txt. accuracy: 86.00%.",
        "===",
        f"Summary of directory: {tmp_path}",
        "* accuracy: 83.00% +- 2.45%",  # sqrt((9 + 0 + 9) / 3)
        "(std; 3 of 3 runs)",
        "===",
    ]


def test_confidence_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, accuracy in ((1, 80.0), (2, 83.0), (3, 86.0)):
        write_log(tmp_path / f"seed{seed}", accuracy)
    assert script.main([str(tmp_path), "--ci95"]) == 0
    assert "* accuracy: 83.00% +- 2.77%" in lines(capsys)  # 1.96 sqrt(6) / sqrt(3)


def test_other_keyword(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "seed1", 80.0)
    assert script.main([str(tmp_path), "--keyword", "macro_f1"]) == 0
    assert "* macro_f1: 79.00% +- 0.00%" in lines(capsys)


def test_results_before_the_end_of_training_are_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = RESULT.format(correct=1, accuracy=99.0, error=1.0, f1=99.0)
    write_log(tmp_path / "seed1", 80.0, before=validation)
    write_log(tmp_path / "seed2", trained=False, before=validation)
    assert script.main([str(tmp_path)]) == 0
    shown = lines(capsys)
    assert "* accuracy: 80.00% +- 0.00%" in shown
    unfinished = f"{tmp_path}/seed2/log.txt (no result after 'Finish training')"
    assert f"unfinished, left out: {unfinished}" in shown
    assert "(std; 1 of 2 runs)" in shown


def test_logs_of_test_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "seed1", 70.0, trained=False)
    assert script.main([str(tmp_path)]) == 0
    assert "no finished run among 1" in lines(capsys)
    assert script.main([str(tmp_path), "--test-log"]) == 0
    assert "* accuracy: 70.00% +- 0.00%" in lines(capsys)


def test_a_test_without_training_points_at_test_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "tests" / "seed1", 70.0, trained=False)
    assert script.main([str(tmp_path / "tests")]) == 0
    log = tmp_path / "tests" / "seed1" / "log.txt"
    shown = lines(capsys)
    assert f"left out: {log} is the log of a test without training; add --test-log" in shown
    assert not any("unfinished" in line for line in shown)
    epoch = "epoch [1/2] batch [5/5] loss 1.0\n"
    write_log(tmp_path / "best_val" / "seed1", 9.0, trained=False, before=epoch)
    assert script.main([str(tmp_path / "best_val")]) == 0
    log = tmp_path / "best_val" / "seed1" / "log.txt"
    assert f"unfinished, left out: {log} (no result after 'Finish training')" in lines(capsys)


@pytest.mark.parametrize("line", ["* accuracy: 81.00%", "accuracy: 81.00%", "log * accuracy: 81%"])
def test_logs_of_older_dassl(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    (tmp_path / "seed1").mkdir()
    text = f"* accuracy: 9%\nFinished training\n=> result\n* total: 1,000\n{line}\n"
    (tmp_path / "seed1" / "log.txt").write_text(text)
    assert script.main([str(tmp_path)]) == 0
    assert "* accuracy: 81.00% +- 0.00%" in lines(capsys)


def test_last_result_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "seed1", 70.0, 72.0)
    assert script.main([str(tmp_path)]) == 0
    assert "* accuracy: 72.00% +- 0.00%" in lines(capsys)


def test_several_experiments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "dtd" / "seed1", 60.0)
    write_log(tmp_path / "eurosat" / "seed1", 70.0)
    assert script.main([str(tmp_path), "--multi-exp"]) == 0
    assert lines(capsys)[-2:] == ["Average performance", "* accuracy: 65.00%"]


def test_no_average_if_an_experiment_has_no_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "dtd" / "seed1", 60.0)
    write_log(tmp_path / "eurosat" / "seed1", trained=False)
    assert script.main([str(tmp_path), "--multi-exp"]) == 0
    assert lines(capsys)[-1] == "not available: 1 of 2 have no finished run"


def test_unparsable_input_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(tmp_path / "nowhere")]) == 2
    assert "no directory" in capsys.readouterr().err
    (tmp_path / "plots").mkdir()
    assert script.main([str(tmp_path)]) == 2
    assert f"no */log.txt in {tmp_path}; it contains plots" in capsys.readouterr().err
    write_log(tmp_path / "seed1", 70.0)
    assert script.main([str(tmp_path), "--keyword", "recall"]) == 2
    assert "it has accuracy, error, macro_f1" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1e999", "-1", "101"])
def test_impossible_percentage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    write_log(tmp_path / "seed1", before=f"=> result\n* accuracy: {value}%\n")
    assert script.main([str(tmp_path), "--test-log"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/seed1/log.txt says that accuracy is" in error
    assert "which is not in 0 to 100" in error


def test_log_that_is_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seed1" / "log.txt").mkdir(parents=True)
    assert script.main([str(tmp_path)]) == 2
    assert "log.txt is not a file" in capsys.readouterr().err


def test_log_without_permission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "seed1", 70.0)
    path = tmp_path / "seed1" / "log.txt"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    assert script.main([str(tmp_path)]) == 74
    assert f"{str(path)!r} cannot be used (permission denied)" in capsys.readouterr().err


def test_a_huge_line_is_not_kept_in_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of 64 MB, in which a result is hidden, is skipped after its first 64 kB."""
    write_log(tmp_path / "seed1", 70.0)
    path = tmp_path / "seed1" / "log.txt"
    with open(path, "ab") as file:
        file.write(b"x" * (64 << 20) + b" * accuracy: 1.0%")
    tracemalloc.start()
    try:
        assert script.main([str(tmp_path)]) == 0
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "* accuracy: 70.00% +- 0.00%" in lines(capsys)
