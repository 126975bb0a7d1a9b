"""`python -m datasets` as a user runs it: list, fetch, check, split and shots."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import datasets.download.catalog as catalogs
from datasets.__main__ import main
from datasets.download.catalog import Entry
from datasets.download.sources import load_origins
from tests.datasets.download.archives import Toy, source, tar_gz
from tests.datasets.download.server import Server
from tests.toy_data import caltech101, write_image
from tests.toy_layouts import LAYOUTS

ROOT = Path(__file__).parents[3]
sys.modules.pop("datasets.__main__")  # other tests run it with runpy, which warns otherwise


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    """Return a copy of the catalog, which the commands use."""
    known = dict(catalogs.catalog())
    for module in ("catalog", "command"):
        monkeypatch.setattr(f"datasets.download.{module}.catalog", lambda: known)
    return known


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Check that a command ends with code 2 and one line, and return it."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_list_names_every_dataset_and_its_state(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    LAYOUTS["EuroSAT"].make(root)
    assert main(["list", "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[0] for line in lines[1:-1]}
    configs = {path.stem for path in (ROOT / "configs/datasets").glob("*.yaml")}
    assert names == configs - {"image_folder"}
    states = {line.split()[0]: line for line in lines}
    assert " 27,000 " in states["eurosat"]
    assert " there  " in states["eurosat"]
    assert "not there" in states["dtd"]
    assert "drawn at first use" in states["critters"]
    assert str(root) in lines[-1]


def test_every_downloadable_dataset_has_sources_that_fit_its_class() -> None:
    for name, entry in catalogs.catalog().items():
        assert (entry.origin is None) == entry.drawn, name
    for name, origin in load_origins().items():
        cls = catalogs.catalog()[name].cls
        created = [path for part in origin.parts for path in part.creates]
        if cls.split_file:
            assert cls.split_file in created
        if name not in ("imagenet", "stanford_cars"):  # by hand; two folders
            assert cls.image_dir in created
        for part in origin.parts:
            if part.unpack:
                assert set(part.creates) <= set(origin.place.values()), name


def test_the_plan_of_everything_needs_no_network(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: object, **options: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", no_network)
    assert main(["fetch", "all", "clip:ViT-B/16", "--dry-run", "--root", str(root)]) == 0
    plan = capsys.readouterr().out
    for text in (
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        "GB to download, and",
        "are free on the disk of",
        "ImageNet needs a login",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
    ):
        assert text in plan
    assert not root.exists()


def test_fetch_wants_consent_and_leaves_failed_datasets_behind(
    server: Server,
    entries: dict[str, Entry],
    tmp_path: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("eurosat", "dtd"):
        toy = Toy(name, tmp_path / name)
        archive = tar_gz(toy.files(toy.layout.images))
        url = f"{server.url}/eurosat.tar.gz"
        if name == "dtd":
            url = server.add("/dtd.tar.gz", archive)
        entries[name] = toy.entry(
            toy.split_part(server.add(f"/{name}.json", toy.split)),
            toy.image_part(source(url, archive)),
        )
    command = ["fetch", "eurosat", "dtd", "--root", str(root)]
    assert "add --yes to the command" in error_of(capsys, *command)
    assert not server.asked
    assert main([*command, "--yes"]) == 1
    said = capsys.readouterr()
    assert "dtd: toy" in said.out
    assert "dtd is complete" in said.out
    table = said.out[said.out.index("failed   why") :]
    assert "eurosat  no source of 2750 can be used" in table
    assert "404" in table
    assert main(["fetch", "dtd", "--root", str(root)]) == 0, "consent to no download"
    assert "dtd is complete" in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_consent_is_asked_on_a_terminal(
    answer: str,
    entries: dict[str, Entry],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert "terms were not accepted" in error_of(capsys, "fetch", "dtd", "--root", root)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch", "dttd"], "the dataset 'dttd' is unknown: did you mean 'dtd'?"),
        (["fetch", "clip:ViT-B/61"], "OpenAI has no CLIP model 'ViT-B/61': did you mean"),
        (["fetch", "critters"], "critters is drawn at its first use: it needs no download"),
        (["fetch", "dtd", "--mirror", "ftp://x"], "--mirror is 'ftp://x': it must start with http"),
        (["check", "dttd"], "the dataset 'dttd' is unknown"),
        (["shots", "dttd"], "the dataset 'dttd' is unknown"),
        (["shots", "imagenet_a"], "ImageNetA is a test set without training images"),
        (["shots", "dtd", "--shots", "0"], "--shots is 0 and --seed 1"),
        (["shots", "dtd", "--root", "/nonexistent"], "run python -m datasets fetch dtd --root /no"),
        (["fecth", "dtd"], "fecth is not a folder: pass one with one subfolder per class, or"),
        (
            ["split", "/", "--train", "0.9"],
            "--train, --val and --test are 0.9, 0.2, 0.3: they must",
        ),
    ],
)
def test_wrong_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "fecth":
        words = words[:1]
    assert message in error_of(capsys, *words)


def test_teachers_and_imagenet_say_what_can_be_had(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "promptkd-teachers"]) == 0
    assert "drive.google.com/drive/folders/1OdQ9" in capsys.readouterr().out
    names = root / "imagenet" / "classnames.txt"
    names.parent.mkdir(parents=True)
    names.write_text("".join(f"n{n:08d} class {n}\n" for n in range(1000)))
    assert main(["fetch", "imagenet", "--yes", "--root", str(root)]) == 1
    said = capsys.readouterr()
    assert "ILSVRC2012_img_train.tar (138 GB)" in said.out
    assert f"into {names.parent} and run the same command again" in said.out


def test_clip_weights_go_where_clip_load_finds_them(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import clip.openai

    content = b"weights"
    sha256 = source("http://x/y", content).sha256
    monkeypatch.setenv("HOME", str(tmp_path))
    address = f"https://example.invalid/{sha256}/ViT-B-16.pt"
    monkeypatch.setitem(clip.openai.MODELS, "ViT-B/16", address)
    server.add("/clip/ViT-B-16.pt", content)
    command = ["fetch", "clip:ViT-B/16", "--mirror", server.url]
    assert "add --yes" in error_of(capsys, *command)
    assert main([*command, "--yes"]) == 0
    assert (tmp_path / ".cache/clip/ViT-B-16.pt").read_bytes() == content
    assert clip.openai.download(address) == str(tmp_path / ".cache/clip/ViT-B-16.pt")
    assert main(command) == 0


def test_check_names_what_is_missing_other_and_broken(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = LAYOUTS["EuroSAT"].make(root)
    folder = root / "eurosat/2750"
    (folder / split["train"][0][0]).unlink()
    (folder / split["test"][0][0]).write_bytes(b"\xff\xd8 no image")
    command = ["check", "eurosat", "dtd", "critters", "--root", str(root)]
    assert main(command) == 1
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("eurosat "))
    assert row.split()[1:5] == ["20", "1", "-", "another"]
    assert row.endswith("python -m datasets fetch eurosat")
    assert f"eurosat: missing images: 2750/{split['train'][0][0]}" in said
    assert "eurosat: train: 9 images instead of 13,500" in said
    assert "dtd: not in dtd: split_zhou_DescribableTextures.json, images" in said
    assert "drawn at first use" in said
    assert "cannot read" not in said
    assert main([*command, "--images"]) == 1
    said = capsys.readouterr().out
    assert f"cannot read the image '{folder / split['test'][0][0]}'" in said
    assert next(x for x in said.splitlines() if x.startswith("eurosat ")).split()[3] == "1"


def test_check_of_a_complete_dataset(
    root: Path,
    entries: dict[str, Entry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy = Toy("dtd", root)
    monkeypatch.setitem(entries, "dtd", toy.entry(toy.split_part("http://x/split.json")))
    assert main(["check", "dtd", "--images", "--root", str(root)]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["dtd", "21", "0", "0", "CoOp's"]


def test_check_counts_class_folders(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "imagenet-adversarial"
    for number in range(3):
        write_image(folder / f"imagenet-a/n0000000{number}/a.jpg", number, size=8)
    (folder / "classnames.txt").write_text("")
    assert main(["check", "imagenet_a", "--root", str(root)]) == 1
    said = capsys.readouterr().out
    assert "imagenet-a: 3 images in 3 class folders instead of 7,500 in 200" in said


def test_shots_are_those_of_a_training(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    caltech101(root)
    command = ["shots", "caltech101", "--shots", "2", "--seed", "3", "--root", str(root)]
    assert main([*command, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    cached = root / "caltech-101/split_fewshot/shot_2-seed_3.pkl"
    sampled = pickle.loads(cached.read_bytes())
    for part, number in (("train", 12), ("val", 12)):
        data = listed[part]["data"]
        assert len(data) == number
        assert [item["impath"] for item in data] == [item.impath for item in sampled[part]]
        assert set(data[0]) == {"impath", "label", "classname"}
    out = root / "list.json"
    assert main([*command, "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == listed


def test_split_with_other_fractions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        for number in range(10):
            write_image(tmp_path / "own" / name / f"{number}.png", number, size=8)
    out = tmp_path / "split.json"
    fractions = ["--train", "0.6", "--val", "0.1", "--test", "0.3"]
    assert main(["split", str(tmp_path / "own"), *fractions, "--out", str(out)]) == 0
    split = json.loads(out.read_text())
    assert {part: len(items) for part, items in split.items()} == {
        "train": 12,
        "val": 2,
        "test": 6,
    }
    assert split["train"][0][0].startswith("a/")
    assert not (tmp_path / "own/split.json").exists()


@pytest.mark.parametrize("words", [["--help"], ["list"], ["fetch", "all", "--dry-run"], ["check"]])
def test_torch_is_not_imported(words: list[str], tmp_path: Path) -> None:
    program = (
        "import sys, runpy; sys.argv = ['datasets', *sys.argv[1:]]\n"
        "try: runpy.run_module('datasets', run_name='__main__', alter_sys=True)\n"
        "finally: print({'torch', 'gdown', 'huggingface_hub', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        env={"DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
