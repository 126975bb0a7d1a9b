"""Prints of one thread are dropped, and those of the others are not."""

import sys
import threading

import pytest

from dassl.utils.silence import silent_thread


def test_only_prints_of_silent_threads_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    steps = [threading.Event() for _ in range(3)]

    def first() -> None:
        with silent_thread():
            steps[0].set()
            steps[1].wait()
            print("of the first thread")
        steps[2].set()

    def second() -> None:
        steps[0].wait()
        with silent_thread():
            steps[1].set()
            steps[2].wait()  # the block of the first thread, begun before, has ended
            print("of the second thread")
            with silent_thread():
                print("of its inner block")
            print("after its inner block")
        print("after its block")

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    steps[1].wait()
    print("of the main thread")
    for thread in threads:
        thread.join()
    print("at the end")
    assert sys.stdout is before
    shown = sorted(capsys.readouterr().out.splitlines())
    assert shown == ["after its block", "at the end", "of the main thread"]


def test_output_returns_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with silent_thread():
            print("silent")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    print("loud")
    assert capsys.readouterr().out == "loud\n"
