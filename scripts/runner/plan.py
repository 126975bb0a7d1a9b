"""Plan the jobs of a request: their folders, settings and teachers.

plan(Request("coop", "base2new", "dtd", seed=1), workspace)  # [training, test on the new classes]

Folders are those of CoOp's and CoCoOp's scripts. A method that learns from labels is trained on one
part of the classes, or on one dataset, and tested on another. A student is distilled on unlabeled
images of the classes or the dataset that it is tested on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dassl.config.flat import decode, read_config
from dassl.engine.run_records import HARMLESS_KEYS
from dassl.utils import UsageError, nearest
from scripts.runner.check_settings import check_job
from scripts.runner.job import Job, Request, Teacher, Workspace
from scripts.runner.protocol_table import Setting

TEACHER = "VLPromptLearner"  # the name of PromptSRC's checkpoints
TEACHER_SEED = 1  # one teacher for all seeds of its students, as PromptKD publishes them

# Keys that the protocol sets. Most are part of a folder's name, which would then be wrong.
RESERVED_KEYS = {
    "DATASET.NUM_SHOTS": "choose them with SHOTS in the environment",
    "DATASET.SUBSAMPLE_CLASSES": "the protocol chooses the classes",
    "DATASET.NAME": "choose the dataset with DATASET",
    "DATASET.ROOT": "choose the folder with DATA in the environment",
    "OUTPUT_DIR": "choose the folder with OUTPUT in the environment",
    "SEED": "choose it with SEED",
    "TRAINER.NAME": "METHOD and configs/protocols.yaml choose the trainer",
    "TRAINER.MODAL": "the protocol chooses it",
}


def plan(request: Request, workspace: Workspace) -> list[Job]:
    """Return the jobs of ``request``, in the order in which they must run.

    Raises:
        UsageError: an unknown method, protocol, dataset, config or setting, a value that a setting
            does not allow, or a key of `RESERVED_KEYS`.
    """
    table, source = workspace.table, request.source or workspace.table.source(request.dataset)
    for what, name, known in (
        ("method", request.method, table.methods),
        ("protocol", request.protocol, list(PLANS)),
        ("dataset", request.dataset, workspace.datasets),
        ("source dataset", source, workspace.datasets),
    ):
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}: {nearest(name, known)}")
    own = protocols_of(request.method, workspace)
    if request.protocol not in own:
        raise UsageError(
            f"{request.method} has no protocol {request.protocol!r} in configs/protocols.yaml: "
            f"{nearest(request.protocol, own)}"
        )
    for key in request.options:
        if key in RESERVED_KEYS:
            raise UsageError(f"{key} cannot be a KEY VALUE pair here: {RESERVED_KEYS[key]}")
    jobs = PLANS[request.protocol].jobs(Planner(replace(request, source=source), workspace))
    for job in jobs:
        check_job(job, workspace)
    return jobs


def plan_grid(
    methods: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    protocols: Sequence[str],
    options: Mapping[str, str],
    workspace: Workspace,
) -> list[list[Job]]:
    """Return a chain of jobs for each seed, protocol, dataset and method, the seeds slowest.

    A sweep that is stopped early then has complete columns of its table. ``methods`` are entries of
    configs/protocols.yaml, or their registered trainers' names.
    """
    names = [workspace.table.method(name) for name in methods]
    chains = [
        plan(Request(method, protocol, dataset, seed, options), workspace)
        for seed in seeds
        for protocol in protocols
        for dataset in datasets
        for method in names
    ]
    return [chain for chain in chains if chain]


def protocols_of(method: str, workspace: Workspace) -> list[str]:
    """Return the protocols of ``method``, which are the names of its scripts."""
    table = workspace.table
    entries = table.protocols(method)
    distills = "xd" in entries and table.setting(method, "xd", "").teacher
    return [
        name
        for name, protocol in PLANS.items()
        # A student is tested where it was distilled: there is no other test.
        if protocol.entry in entries and not (name == "xd_test" and distills)
    ]


def published_teacher(dataset: str, cross: bool, workspace: Workspace) -> Path:
    """Return the place of PromptKD's published teacher, which train.py uses by default."""
    folder = workspace.root / "teacher_model"
    if cross:
        return folder / "ImageNet-xd" / f"{TEACHER}_large" / "model.pth.tar-20"
    return folder / workspace.dataset_class(dataset) / TEACHER / "model-best.pth.tar"


class Planner:
    """The jobs of one request, which has a source, by protocol."""

    def __init__(self, request: Request, workspace: Workspace) -> None:
        self.request = request
        self.workspace = workspace
        self.seed = f"seed{request.seed}"

    def base2new(self) -> list[Job]:
        pairs = zip(self.base2new_train(), self.base2new_test(), strict=True)
        return [*self.new_teachers("base2new"), *(job for pair in pairs for job in pair)]

    def base2new_train(self, protocol: str = "base2new") -> list[Job]:
        return [
            self.job(setting, self.base2new_folder("train_base", setting, shots), shots, "base")
            for setting, shots in self.settings(protocol, self.request.dataset)
        ]

    def base2new_test(self) -> list[Job]:
        jobs = []
        for setting, shots in self.settings("base2new", self.request.dataset):
            folder = self.base2new_folder("test_new", setting, shots)
            model = self.base2new_folder("train_base", setting, shots)
            jobs.append(self.job(setting, folder, shots, "new", model))
        return jobs

    def base2new_folder(self, part: str, setting: Setting, shots: int) -> Path:
        folder = self.workspace.output / "base2new" / part / self.request.dataset
        return folder / f"shots_{shots}" / setting.trainer / setting.config / self.seed

    def teacher(self) -> list[Job]:
        return self.base2new_train("teacher")

    def teacher_xd(self) -> list[Job]:
        return self.xd_train("teacher_xd")

    def xd(self) -> list[Job]:
        return self.on_targets("cross_datasets")

    def dg(self) -> list[Job]:
        return self.on_targets("domains")

    def on_targets(self, kind: str) -> list[Job]:
        """Train on the request's dataset, the source, and test on its targets; or distill there."""
        source, workspace = self.request.dataset, self.workspace
        planners = []
        for target in workspace.table.targets(kind, source):
            if target not in workspace.datasets:
                raise UsageError(
                    f"configs/protocols.yaml lists {target} among the {kind} of {source}, but "
                    f"there is no such dataset: {nearest(target, workspace.datasets)}"
                )
            planners.append(
                Planner(replace(self.request, dataset=target, source=source), workspace)
            )
        if workspace.table.setting(self.request.method, "xd", source).teacher:
            students = [job for planner in planners for job in planner.xd_train()]
            return [*planners[0].new_teachers("xd"), *students]
        return [*self.xd_train(), *(job for planner in planners for job in planner.xd_test())]

    def xd_train(self, protocol: str = "xd") -> list[Job]:
        return [
            self.job(setting, self.shots_folder(self.request.dataset, setting, shots), shots)
            for setting, shots in self.settings(protocol, self.request.dataset)
        ]

    def xd_test(self) -> list[Job]:
        # The setting is the source's: its model is read and its config evaluated.
        jobs = []
        for setting, shots in self.settings("xd", self.request.source):
            folder = self.shots_folder("evaluation", setting, shots, self.request.dataset)
            model = self.shots_folder(self.request.source, setting, shots)
            jobs.append(self.job(setting, folder, shots, model=model))
        return jobs

    def fewshot(self) -> list[Job]:
        jobs = []
        for setting, shots in self.settings("fewshot", self.request.dataset):
            suffix = self.folder_suffix(setting)
            folder = self.shots_folder(self.request.dataset, setting, shots, suffix)
            jobs.append(self.job(setting, folder, shots))
        return jobs

    def shots_folder(self, first: str, setting: Setting, shots: int, *rest: str) -> Path:
        folder = self.workspace.output / first / setting.trainer / f"{setting.config}_{shots}shots"
        return folder.joinpath(*rest, self.seed)

    def zeroshot(self) -> list[Job]:
        dataset, table = self.request.dataset, self.workspace.table
        setting = self.chosen(table.setting(self.request.method, "zeroshot", dataset))
        folder = self.workspace.output / setting.trainer / setting.config / dataset
        return [
            self.job(setting, folder / classes / self.seed, None, classes)
            for classes in (("all",) if table.is_variant(dataset) else ("all", "base", "new"))
        ]

    def settings(self, protocol: str, dataset: str) -> Iterator[tuple[Setting, int]]:
        """Yield the setting for each of the requested numbers of shots."""
        table, method = self.workspace.table, self.request.method
        for shots in self.request.shots or table.setting(method, protocol, dataset).shots:
            yield self.chosen(table.setting(method, protocol, dataset, shots)), shots

    def chosen(self, setting: Setting) -> Setting:
        config, trainer = self.request.config, self.request.trainer
        if config is not None:
            setting = replace(setting, config=config)
        if trainer is not None:
            folder = setting.config_folder or setting.trainer
            setting = replace(setting, trainer=trainer, config_folder=folder)
        return setting

    def job(
        self,
        setting: Setting,
        folder: Path,
        shots: int | None,
        classes: str = "all",
        model: Path | None = None,
    ) -> Job:
        """Return a training, or the test of ``model``; without ``shots`` nothing is trained."""
        request = self.request
        trains = shots is not None and model is None
        parts = [request.protocol, request.dataset, f"{classes} classes"]
        if shots is not None:
            parts.append(f"{shots}-shot" if shots else "all images")
        return Job(
            name=f"{request.trainer or request.method} {', '.join(parts)}, seed {request.seed}",
            trainer=setting.trainer,
            dataset=request.dataset,
            seed=request.seed,
            config=setting.config_path,
            folder=folder,
            options=self.options(setting, shots, classes, trains),
            classes=classes,
            eval_only=not trains,
            model_folder=model,
            epoch=None if model is None else self.epoch(setting),
            teacher=self.teacher_of(setting),
        )

    def options(
        self, setting: Setting, shots: int | None, classes: str, trains: bool
    ) -> dict[str, str]:
        """Return the KEY VALUE pairs of method, protocol and user; later ones win."""
        pairs = dict(setting.options)
        if trains and setting.save_every is not None:
            pairs["TRAIN.CHECKPOINT_FREQ"] = setting.save_every
        if shots is not None:
            pairs["DATASET.NUM_SHOTS"] = shots
        if self.effective(setting).get("DATASET.DISTILL_ON") == "all":
            # The student sees images of all classes; base and new ones are its val and test split.
            if classes != "all":
                pairs["TEST.SPLIT"] = "val" if classes == "base" else "test"
            if "TEST.SPLIT" in self.request.options:
                raise UsageError("TEST.SPLIT cannot be a KEY VALUE pair here: the protocol sets it")
        elif classes != "all":  # as in CoOp's scripts, which name a part only
            pairs["DATASET.SUBSAMPLE_CLASSES"] = classes
        if setting.teacher and self.published(setting) is None:
            _, weights = self.own_teacher(setting)
            pairs[f"{_section(setting)}.TEACHER_WEIGHTS"] = self.workspace.short(weights)
        return {key: str(value) for key, value in pairs.items()} | dict(self.request.options)

    def teacher_of(self, setting: Setting) -> Teacher | None:
        """Return the teacher that train.py will load: the user's, our own or the published one."""
        if not setting.teacher:
            return None
        section, flat = _section(setting), self.effective(setting)
        given = flat.get(f"{section}.TEACHER_WEIGHTS")
        path = self.workspace.root / str(given) if given else self.published(setting)
        weights = path or self.own_teacher(setting)[1]
        return Teacher(weights, str(flat.get(f"{section}.TEACHER_NAME", "ViT-L/14")))

    def new_teachers(self, protocol: str) -> list[Job]:
        """Return the training of the student's teacher if there is no teacher yet."""
        setting = self.workspace.table.setting(self.request.method, protocol, self.request.dataset)
        if not setting.teacher or f"{_section(setting)}.TEACHER_WEIGHTS" in self.request.options:
            return []
        job, weights = self.own_teacher(setting)
        return [] if weights.is_file() or self.published(setting) is not None else [job]

    def own_teacher(self, setting: Setting) -> tuple[Job, Path]:
        """Return the training of the teacher of ``setting``, and the checkpoint that it writes.

        KEY VALUE pairs are the student's, except those that change speed alone.
        """
        method, protocol = setting.teacher.split()
        cross = protocol == "teacher_xd"
        dataset = self.request.source if cross else self.request.dataset
        pairs = {k: v for k, v in self.request.options.items() if k in HARMLESS_KEYS}
        request = Request(method, protocol, dataset, TEACHER_SEED, pairs)
        planner = Planner(request, self.workspace)
        (job,) = PLANS[protocol].jobs(planner)
        epoch = planner.epoch(self.workspace.table.setting(method, protocol, dataset))
        return job, job.folder / TEACHER / checkpoint_name(epoch)

    def published(self, setting: Setting) -> Path | None:
        """Return PromptKD's published teacher if it is there, suits, and no own one is there."""
        cross = setting.teacher.split()[1] == "teacher_xd"
        path = published_teacher(self.request.dataset, cross, self.workspace)
        suits = not cross or self.request.source == "imagenet"
        own = self.own_teacher(setting)[1].is_file()
        return path if suits and path.is_file() and not own else None

    def effective(self, setting: Setting) -> dict[str, Any]:
        """Return config file, the method's options and the user's as one flat table."""
        flat = read_config(self.workspace.trainer_config(setting.config_path))
        given = {key: decode(value) for key, value in self.request.options.items()}
        return {**flat, **setting.options, **given}

    def epoch(self, setting: Setting) -> int | None:
        """Return the epoch that a test reads; None: the best on the validation split."""
        flat = self.effective(setting)
        if flat.get("TEST.FINAL_MODEL") == "best_val":
            return None
        if setting.epoch is not None:
            return setting.epoch
        if "OPTIM.MAX_EPOCH" not in flat:
            raise UsageError(
                f"configs/trainers/{setting.config_path}.yaml does not set OPTIM.MAX_EPOCH, so the "
                "epoch to test is unknown; add OPTIM.MAX_EPOCH N to the command"
            )
        epoch = flat["OPTIM.MAX_EPOCH"]
        if type(epoch) is not int or epoch < 1:
            raise UsageError(f"OPTIM.MAX_EPOCH takes a positive whole number, got {epoch!r}")
        return epoch

    def folder_suffix(self, setting: Setting) -> str:
        """Return the name of a setting's folder, such as nctx16_cscFalse_ctpend; "" without one.

        Words of CTX_INIT replace the N_CTX vectors of each class and are named in their place,
        unless the command itself sets N_CTX or CSC, as in CoOp's scripts.
        """
        section = f"{_section(setting)}."
        flat = self.effective(setting).items()
        own = {key.removeprefix(section): value for key, value in flat if key.startswith(section)}
        values = {**setting.suffix_defaults, **own}
        if "CTX_INIT" in setting.suffix_defaults:
            context = values["CTX_INIT"]
            if not isinstance(context, str):
                raise UsageError(
                    f"{section}CTX_INIT takes text such as 'a photo of a', got {context!r}"
                )
            words = context.replace("_", " ").split()
            values |= {"N_CTX": len(words), "CSC": False} if words else {}
            values |= {key: own[key] for key in own if section + key in self.request.options}
        try:
            return setting.folder_suffix.format(**values)
        except KeyError as error:
            raise UsageError(
                f"the folder_suffix {setting.folder_suffix!r} of {self.request.method} in "
                f"configs/protocols.yaml needs {section}{error.args[0]}: set it in "
                f"{setting.config_path}.yaml or among the suffix_defaults"
            ) from None


def _section(setting: Setting) -> str:
    return f"TRAINER.{setting.config_node or setting.trainer.upper()}"


def checkpoint_name(epoch: int | None) -> str:
    """Return the file name of an epoch's checkpoint, or of the best one (None)."""
    return "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"


class Protocol(NamedTuple):
    """A protocol's jobs, and the entry of configs/protocols.yaml that sets them."""

    jobs: Callable[[Planner], list[Job]]
    entry: str


PLANS = {
    "base2new": Protocol(Planner.base2new, "base2new"),
    "base2new_train": Protocol(Planner.base2new_train, "base2new"),
    "base2new_test": Protocol(Planner.base2new_test, "base2new"),
    "xd": Protocol(Planner.xd, "xd"),
    "xd_train": Protocol(Planner.xd_train, "xd"),
    "xd_test": Protocol(Planner.xd_test, "xd"),
    "dg": Protocol(Planner.dg, "xd"),
    "fewshot": Protocol(Planner.fewshot, "fewshot"),
    "zeroshot": Protocol(Planner.zeroshot, "zeroshot"),
    "teacher": Protocol(Planner.teacher, "teacher"),
    "teacher_xd": Protocol(Planner.teacher_xd, "teacher_xd"),
}
