"""Pre-trains the tiny CLIP of the Critters world and writes it to assets/.

    python -m assets.critters.pretrain                                  # about 45 minutes, 2 cores
    python -m assets.critters.pretrain --steps 20 --images 1000 --name try --assets /tmp/try

One stage: the contrastive loss over pictures and captions, with two helpers whose heads are thrown
away: attributes from the pooled feature (faded out), and the visible part from every patch token.
The number of steps is fixed, and a step depends on its number, the seed and the weights alone; an
interrupted run goes on from its last checkpoint, and a finished one when it is asked for more
steps: the learning rate then rises to where the longer schedule has it. The sizes are arguments: a
larger teacher is the same command with other numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from assets.critters.export import export, round_to_half
from assets.critters.losses import Heads, contrastive_loss
from assets.critters.pool import GRID, SIZE, Pool, make_pool, open_pool
from assets.critters.towers import encode_image, encode_text, initialize
from assets.critters.vocabulary import Vocabulary
from assets.critters.zeroshot import PROMPT, accuracy_by_style, normalize
from clip.model import CLIP
from dassl.utils import UsageError, atomic_path
from datasets.critters_world import SPECIES

_REPOSITORY = Path(__file__).resolve().parents[2]
# What decides the weights: default and meaning.
_RECIPE: dict[str, tuple[float, str]] = {
    "steps": (4000, "batches to train on"),
    "batch": (256, "pictures a batch"),
    "lr": (1.5e-3, "peak learning rate"),
    "seed": (1, "of weights and order"),
    "images": (160_000, "pictures to render"),
    "dim": (128, "of the joint space"),
    "vision_width": (128, "of the image tower, a multiple of 64"),
    "vision_layers": (4, "of the image tower"),
    "text_width": (64, "of the text tower, a multiple of 64"),
    "text_layers": (2, "of the text tower"),
}
_POOL_SEED = 1
_WARM_UP = 200  # steps
_FADE = 0.6  # share of the steps over which the attribute loss fades out
_MAX_LOGIT_SCALE = math.log(50)


class Trainer:
    """The training loop: state, one step, checkpoints.

    Args:
        settings: what decides the weights, see `parse`.
        pool: pictures and captions; the last ones are held out.
    """

    def __init__(self, settings: dict[str, float], pool: Pool) -> None:
        self.settings, self.pool = settings, pool
        self.steps, self.seed = int(settings["steps"]), int(settings["seed"])
        self.vocabulary = Vocabulary()
        longest = int((pool.tokens[:] != 0).sum(-1).max())
        tokens = np.array(pool.tokens[..., :longest])
        self.tokens = self.vocabulary.rows(torch.from_numpy(tokens).long())  # (N, K, longest)
        self.model, self.heads = build(settings, len(self.vocabulary))
        self.modules = nn.ModuleDict({"model": self.model, "heads": self.heads})
        self.optimizer = build_optimizer(self.modules)
        self.step = 0
        self.seconds = 0.0  # of training, over all parts of an interrupted run
        self.stages = [self.steps]  # the schedules that were trained, one after another

    def run_step(self) -> dict[str, float]:
        """Train on one batch; returns the losses by name."""
        pool = self.pool
        rows = batch_rows(self.step, int(self.settings["batch"]), len(pool.training), self.seed)
        rng = np.random.RandomState([self.seed, self.step, 1])
        pick = rng.randint(self.tokens.shape[1], size=len(rows))  # one caption of each picture
        images, parts = pool.images[rows], pool.parts[rows]
        if rng.rand() < 0.5:
            images, parts = images[:, :, ::-1], parts[..., ::-1]
        labels = torch.from_numpy(pool.labels[rows]).long()
        targets = torch.from_numpy(np.ascontiguousarray(parts)).long().flatten(2)
        mentions = torch.from_numpy(pool.mentions[rows, pick])

        with torch.autocast("cpu", torch.bfloat16):
            pooled, patches = encode_image(self.model, normalize(images))
            text = encode_text(self.model, self.tokens[rows, pick])
            losses = {"part": self.heads.part_loss(patches, targets)}
        scale = self.model.logit_scale.exp()
        losses["pair"] = contrastive_loss(pooled.float(), text.float(), scale, labels, mentions)
        losses["attribute"] = self.heads.attribute_loss(pooled.float(), labels)
        fade = max(0.0, 1 - self.step / (_FADE * self.steps))
        self._descend(losses["pair"] + losses["part"] + fade * losses["attribute"])
        return {name: loss.item() for name, loss in losses.items()}

    def _descend(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise UsageError(f"the loss is {loss.item()} at step {self.step}: try a smaller --lr")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, self.settings["lr"])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)
        self.step += 1

    def train(self, checkpoint: Path, save_every: int) -> None:
        """Train to the last step, with a checkpoint and an evaluation every `save_every`."""
        with tqdm(
            total=self.steps, initial=self.step, unit="step", dynamic_ncols=True, mininterval=5
        ) as bar:
            while self.step < self.steps:
                start = time.perf_counter()
                losses = self.run_step()
                self.seconds += time.perf_counter() - start
                bar.update()
                if self.step % 10 == 0:
                    bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()})
                if self.step % save_every == 0 or self.step == self.steps:
                    self.save(checkpoint)
                    tqdm.write(f"step {self.step} held-out accuracy: {json.dumps(self.evaluate())}")

    def save(self, path: Path) -> None:
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": self.settings,
            "stages": self.stages,
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of this run, or from the end of one with fewer steps.

        Raises:
            UsageError: it is of a run with other settings, or a shorter one is not at its end.
        """
        state = torch.load(path, weights_only=True)
        shorter = state["settings"] | {"steps": self.steps} == self.settings
        at_end = state["step"] == state["settings"]["steps"] < self.steps
        if state["settings"] != self.settings and not (shorter and at_end):
            raise UsageError(
                f"{path} is of a run with {state['settings']} at step {state['step']}, not "
                f"{self.settings}: delete it, or name another folder with --pool"
            )
        self.stages = state["stages"]
        if self.stages[-1] != self.steps:
            self.stages.append(self.steps)
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"going on from step {self.step} of {path}")

    def report(self) -> dict[str, Any]:
        """Round the model to what is shipped; say how it was made and how good it is."""
        round_to_half(self.model)
        return {
            "recipe": self.settings,
            "stages": self.stages,
            "samples": self.steps * int(self.settings["batch"]),
            "optimizer": f"AdamW, weight decay 0.05, warm-up {_WARM_UP} steps, cosine",
            "minutes": round(self.seconds / 60, 1),
            "threads": torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "vocabulary_rows": len(self.vocabulary),
            "zero_shot_percent": self.evaluate(),
            "zero_shot_protocol": f"{len(SPECIES)} species, {PROMPT!r}, per style, "
            f"{len(self.pool.held_out)} held-out pictures of pre-training's world",
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """72-way zero-shot accuracy on the pool's held-out pictures, in percent."""
        return accuracy_by_style(
            lambda images: encode_image(self.model, images)[0],
            lambda tokens: encode_text(self.model, self.vocabulary.rows(tokens)),
            self.pool.images[self.pool.held_out],
            self.pool.labels[self.pool.held_out],
        )


def build(settings: dict[str, float], vocabulary: int) -> tuple[CLIP, Heads]:
    """Make the towers and the helpers' heads from the seed."""
    sizes = {name: int(value) for name, value in settings.items()}
    for name in ("vision_width", "text_width"):
        if sizes[name] < 64 or sizes[name] % 64:
            raise UsageError(
                f"{name} is {sizes[name]}: it must be a multiple of 64, a head's width"
            )
    model = CLIP(
        embed_dim=sizes["dim"],
        image_resolution=SIZE,
        vision_layers=sizes["vision_layers"],
        vision_width=sizes["vision_width"],
        vision_patch_size=SIZE // GRID,
        context_length=77,
        vocab_size=vocabulary,
        transformer_width=sizes["text_width"],
        transformer_heads=sizes["text_width"] // 64,
        transformer_layers=sizes["text_layers"],
    )
    torch.manual_seed(sizes["seed"])
    heads = Heads(sizes["dim"], sizes["vision_width"])
    initialize(model)
    return model, heads


def build_optimizer(modules: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays matrices, but neither embeddings nor vectors."""
    named = list(modules.named_parameters())
    decayed = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
    others = [p for name, p in named if p.ndim < 2 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """A linear warm-up, then half a cosine down to 2 % of the peak."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def batch_rows(step: int, size: int, items: int, seed: int) -> np.ndarray:
    """Rows of the pool for a step: every epoch goes once through all, in its own order."""
    epoch, place = divmod(step, items // size)
    order = np.random.RandomState([seed, epoch]).permutation(items)
    return np.sort(order[place * size : (place + 1) * size])


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, dict[str, float]]:
    """Read the command line: all of it, and the part that decides the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, (default, meaning) in _RECIPE.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(
            flag, type=type(default), default=default, help=f"{meaning} (default: %(default)s)"
        )
    add = parser.add_argument
    add("--name", default="critters-vit-t", help="of the files in the assets folder")
    add(
        "--assets",
        type=Path,
        default=_REPOSITORY / "assets" / "critters",
        help="where they are written",
    )
    add("--pool", type=Path, default=_REPOSITORY / "data" / "critters-pool", help="working folder")
    add("--threads", type=int, default=2, help="CPU cores to use")
    add("--save-every", type=int, default=250, help="steps between checkpoints")
    args = parser.parse_args(arguments)
    return args, {name: getattr(args, name) for name in _RECIPE}


def command(name: str, settings: dict[str, float]) -> str:
    """The command line of a run with these settings."""
    flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in settings.items())
    return f"python -m assets.critters.pretrain --name {name} {flags}"


def main(arguments: list[str] | None = None) -> None:
    args, settings = parse(arguments)
    torch.set_num_threads(args.threads)
    make_pool(args.pool, args.images, _POOL_SEED, args.threads)
    trainer = Trainer(settings, open_pool(args.pool))
    checkpoint = args.pool / f"{args.name}.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    trainer.train(checkpoint, args.save_every)
    recipe = {
        "command": " && ".join(
            command(args.name, settings | {"steps": steps}) for steps in trainer.stages
        ),
        **trainer.report(),
    }
    export(trainer.model, trainer.vocabulary, recipe, args.assets, args.name)
    print(json.dumps(recipe, indent=2))


if __name__ == "__main__":
    main()
