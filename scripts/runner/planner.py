"""The jobs of one request in each protocol: their folders, settings and teachers.

Folders are those of CoOp's and CoCoOp's scripts. A method that learns from labels is trained on one
part of the classes, or on one dataset, and tested on another. A student of PromptKD distils on
unlabeled images of what it is tested on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dassl.config.flat import decode, read_config
from dassl.utils import UsageError, nearest
from scripts.runner.job import HARMLESS_KEYS, Job, Request, Workspace
from scripts.runner.protocol_table import Setting

WEIGHTS = "TRAINER.PROMPTKD.TEACHER_WEIGHTS"
TEACHER = "VLPromptLearner"  # the name of PromptSRC's checkpoints
TEACHER_SEED = 1  # one teacher for all seeds of its students, as PromptKD publishes them


def published_path(dataset: str, cross: bool, place: Workspace) -> Path:
    """Return where PromptKD's published teacher is expected if TEACHER_WEIGHTS is not set."""
    folder = place.root / "teacher_model"
    if cross:
        return folder / "ImageNet-xd" / f"{TEACHER}_large" / "model.pth.tar-20"
    name = read_config(place.dataset_config(dataset))["DATASET.NAME"]
    return folder / name / TEACHER / "model-best.pth.tar"


class Planner:
    """One request's jobs, protocol by protocol.

    Args:
        request: with the source that `scripts.runner.plan.plan` filled in.
    """

    def __init__(self, request: Request, place: Workspace) -> None:
        self.request = request
        self.place = place
        self.seed = f"seed{request.seed}"

    def base2new(self) -> list[Job]:
        pairs = zip(self.base2new_train(), self.base2new_test(), strict=True)
        return [*self.teachers("base2new"), *(job for pair in pairs for job in pair)]

    def base2new_train(self) -> list[Job]:
        return [
            self.job(setting, self.base2new_folder("train_base", setting, shots), shots, "base")
            for setting, shots in self.settings("base2new", self.request.dataset)
        ]

    def base2new_test(self) -> list[Job]:
        jobs = []
        for setting, shots in self.settings("base2new", self.request.dataset):
            folder = self.base2new_folder("test_new", setting, shots)
            model = self.base2new_folder("train_base", setting, shots)
            jobs.append(self.job(setting, folder, shots, "new", model))
        return jobs

    def base2new_folder(self, part: str, setting: Setting, shots: int) -> Path:
        folder = self.place.output / "base2new" / part / self.request.dataset / f"shots_{shots}"
        return folder / setting.trainer / setting.config / self.seed

    def teacher(self) -> list[Job]:
        return [
            self.job(setting, self.base2new_folder("train_base", setting, shots), shots, "base")
            for setting, shots in self.settings("teacher", self.request.dataset)
        ]

    def teacher_xd(self) -> list[Job]:
        return self.train_on_all("teacher_xd")

    def xd(self) -> list[Job]:
        return self.on_targets("cross_datasets")

    def dg(self) -> list[Job]:
        return self.on_targets("domains")

    def on_targets(self, kind: str) -> list[Job]:
        """Train on the dataset of the request, the source, and test on all of its targets."""
        source, table = self.request.dataset, self.place.table
        targets = table.targets(kind, source)
        for target in targets:
            if target not in self.place.datasets:
                raise UsageError(
                    f"configs/protocols.yaml names {target} among the {kind} of {source}, but "
                    f"there is no such dataset: {nearest(target, self.place.datasets)}"
                )
        there = [
            Planner(replace(self.request, dataset=target, source=source), self.place)
            for target in targets
        ]
        if table.setting(self.request.method, "xd", source).teacher:
            students = [job for target in there for job in target.xd_train()]
            return [*there[0].teachers("xd"), *students]
        return [*self.xd_train(), *(job for target in there for job in target.xd_test())]

    def xd_train(self) -> list[Job]:
        return self.train_on_all("xd")

    def train_on_all(self, protocol: str) -> list[Job]:
        """A training on all classes of the dataset."""
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
            # Only CoOp and its kin vary the context, and name it in the folder.
            context = [self.context_name(setting)] if setting.trainer.endswith("CoOp") else []
            folder = self.shots_folder(self.request.dataset, setting, shots, *context)
            jobs.append(self.job(setting, folder, shots))
        return jobs

    def shots_folder(self, first: str, setting: Setting, shots: int, *rest: str) -> Path:
        folder = self.place.output / first / setting.trainer / f"{setting.config}_{shots}shots"
        return folder.joinpath(*rest, self.seed)

    def zeroshot(self) -> list[Job]:
        dataset, table = self.request.dataset, self.place.table
        setting = self.chosen(table.setting(self.request.method, "zeroshot", dataset))
        folder = self.place.output / setting.trainer / setting.config / dataset
        return [
            self.job(setting, folder / classes / self.seed, None, classes)
            for classes in (("all",) if table.is_variant(dataset) else ("all", "base", "new"))
        ]

    def settings(self, protocol: str, dataset: str) -> Iterator[tuple[Setting, int]]:
        """The setting for each number of shots that was asked for."""
        table, method = self.place.table, self.request.method
        for shots in self.request.shots or table.setting(method, protocol, dataset).shots:
            yield self.chosen(table.setting(method, protocol, dataset, shots)), shots

    def chosen(self, setting: Setting) -> Setting:
        config = self.request.config
        return setting if config is None else replace(setting, config=config)

    def job(
        self,
        setting: Setting,
        folder: Path,
        shots: int | None,
        classes: str = "all",
        model: Path | None = None,
    ) -> Job:
        """A training, or the test of ``model``; without ``shots`` there is nothing to train."""
        request = self.request
        self.place.trainer_config(
            setting.config_path
        )  # a missing file is said before anything runs
        trains = shots is not None and model is None
        parts = [request.protocol, request.dataset, f"{classes} classes"]
        if shots is not None:
            parts.append(f"{shots}-shot" if shots else "all images")
        return Job(
            name=f"{request.method} {', '.join(parts)}, seed {request.seed}",
            trainer=setting.trainer,
            dataset=request.dataset,
            seed=request.seed,
            config=setting.config_path,
            folder=folder,
            options=self.options(setting, shots, classes, trains),
            eval_only=not trains,
            model_folder=model,
            epoch=None if model is None else self.epoch(setting),
        )

    def options(
        self, setting: Setting, shots: int | None, classes: str, trains: bool
    ) -> dict[str, str]:
        """KEY VALUE pairs: the method's, the protocol's, the user's; the later one wins."""
        pairs = dict(setting.options)
        if trains and setting.save_every is not None:
            pairs["TRAIN.CHECKPOINT_FREQ"] = setting.save_every
        if shots is not None:
            pairs["DATASET.NUM_SHOTS"] = shots
        if self.effective(setting).get("DATASET.DISTILL_ON") == "all":
            # It sees images of all classes; base and new ones are its val and test split.
            if classes != "all":
                pairs["TEST.SPLIT"] = "val" if classes == "base" else "test"
            if "TEST.SPLIT" in self.request.options:
                raise UsageError("TEST.SPLIT cannot be a KEY VALUE pair here: the protocol sets it")
        elif classes != "all":  # as in CoOp's scripts, which name a part only
            pairs["DATASET.SUBSAMPLE_CLASSES"] = classes
        if setting.teacher and self.published_teacher(setting) is None:
            _, weights = self.own_teacher(setting)
            pairs[WEIGHTS] = self.place.short(weights)
        return {key: str(value) for key, value in pairs.items()} | dict(self.request.options)

    def teachers(self, protocol: str) -> list[Job]:
        """The training of the student's teacher, unless there is one or the user names it."""
        setting = self.place.table.setting(self.request.method, protocol, self.request.dataset)
        if not setting.teacher or WEIGHTS in self.request.options:
            return []
        job, weights = self.own_teacher(setting)
        there = weights.is_file() or self.published_teacher(setting) is not None
        return [] if there else [job]

    def own_teacher(self, setting: Setting) -> tuple[Job, Path]:
        """The job that trains the teacher of ``setting``, and the file that it leaves.

        KEY VALUE pairs are the student's, except those that change speed alone.
        """
        method, protocol = setting.teacher.split()
        over_classes = protocol == "teacher_xd"
        dataset = self.request.source if over_classes else self.request.dataset
        pairs = {k: v for k, v in self.request.options.items() if k in HARMLESS_KEYS}
        request = Request(method, protocol, dataset, TEACHER_SEED, pairs)
        planner = Planner(request, self.place)
        (job,) = planner.teacher_xd() if over_classes else planner.teacher()
        epoch = planner.epoch(self.place.table.setting(method, protocol, dataset))
        name = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        return job, job.folder / TEACHER / name

    def published_teacher(self, setting: Setting) -> Path | None:
        """PromptKD's published file where it fits and is there, unless there is an own one."""
        cross = setting.teacher.endswith("teacher_xd")
        path = published_path(self.request.dataset, cross, self.place)
        fits = not cross or self.request.source == "imagenet"
        own = self.own_teacher(setting)[1].is_file()
        return path if fits and path.is_file() and not own else None

    def effective(self, setting: Setting) -> Mapping[str, Any]:
        """Config file, the method's options and the user's as one flat table."""
        flat = read_config(self.place.trainer_config(setting.config_path))
        given = {key: decode(value) for key, value in self.request.options.items()}
        return {**flat, **setting.options, **given}

    def epoch(self, setting: Setting) -> int | None:
        """The epoch that a test reads; None for the model that was best on the validation split."""
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

    def context_name(self, setting: Setting) -> str:
        """CoOp's folder name of a context: nctx16_cscFalse_ctpend.

        It tells what is used: words of CTX_INIT replace the N_CTX vectors, for all classes alike.
        """
        flat = self.effective(setting)
        node = "TRAINER.COCOOP" if setting.trainer.endswith("CoCoOp") else "TRAINER.COOP"
        context = flat.get(f"{node}.CTX_INIT", "")
        if not isinstance(context, str):
            raise UsageError(f"{node}.CTX_INIT takes text such as 'a photo of a', got {context!r}")
        words = context.replace("_", " ").split()
        n_ctx = len(words) or flat.get(f"{node}.N_CTX", 16)
        csc = not words and flat.get(f"{node}.CSC", False)
        return f"nctx{n_ctx}_csc{csc}_ctp{flat.get(f'{node}.CLASS_TOKEN_POSITION', 'end')}"
