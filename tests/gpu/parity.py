"""A captured update against an eager one, recipe by recipe; the GPU against the CPU; what waits for
the host."""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import time
import traceback
import warnings
from pathlib import Path

import torch

from h2t.recipes.parameters import Stage1, Stage2
from tests.gpu.trial import TOY, Trial, apart, flags


def parity_cases(args):
    own = {"batch_size": 128, "crop_padding": 4, "seed": 3}
    plain = {**own, "mixup_alpha": 0.0}
    return [
        ("1 ce mixup", 1, Stage1(**own), {}),
        ("2 h2t", 2, Stage2(**own), {}),
        ("2 dr", 2, Stage2(fusion_ratio=0.0, bn_statistics="balanced", **own), {}),
        ("1 ldam drw", 1, Stage1(loss="ldam", head="cosine", drw_from=0.005, **plain), {}),
        ("1 cmo", 1, Stage1(cmo_probability=0.5, **plain), {"first": 5}),
        ("2 none", 2, Stage2(bn_statistics="none", **own), {}),
        ("2 balanced", 2, Stage2(bn_statistics="balanced", **own), {}),
        ("2 soft", 2, Stage2(fusion="soft", **own), {}),
        ("2 mixup fusion", 2, Stage2(fusion="mixup", **own), {}),
        ("2 mislas", 2, Stage2(stage2_method="mislas", fused_branch="class_aware", **own), {}),
        ("2 lws", 2, Stage2(stage2_method="lws", stage2_mixup_alpha=1.0, **own), {}),
        ("1 focal", 1, Stage1(loss="focal", **own), {}),
        ("1 cb", 1, Stage1(loss="cb", drw_from=0.005, **own), {}),
        ("1 bsce", 1, Stage1(loss="bsce", **own), {}),
        ("1 la", 1, Stage1(loss="la", **own), {}),
        ("1 las", 1, Stage1(loss="las", **own), {}),
        (
            "1 ride",
            1,
            Stage1(
                loss="ride",
                head="cosine",
                model="ride3_resnet32",
                drw_from=0.005,
                nesterov=True,
                rotation=15.0,
                **plain,
            ),
            {"model": "ride2_resnet20_narrow" if args.tiny else "ride3_resnet32"},
        ),
        (
            "1 reslt",
            1,
            Stage1(loss="reslt", model="reslt_resnet32", **plain),
            {"model": "reslt_resnet20" if args.tiny else "reslt_resnet32"},
        ),
    ]


def section_parity(args, say) -> dict:
    """Graph against eager, case by case: fp32 with deterministic algorithms, where both should be
    one; then bf16."""
    rows, size = [], TOY if args.tiny else {}
    for name, stage, config, how in parity_cases(args):
        if args.tiny:
            config = dataclasses.replace(config, batch_size=32, crop_padding=1)
        row = {"case": name}
        try:
            row |= _exact(args, stage, config, how, size)
            if len(rows) < (1 if args.tiny else 4):
                row |= _in_bf16(args, stage, config, how, size)
        except Exception as e:
            row["error"] = f"{type(e).__name__}: {e}"[:500]
            say(traceback.format_exc())
        rows.append(row)
        say.keep({"cases": rows})
    found = {
        "cases": rows,
        "all_captured": all(r.get("kind") == "graph" for r in rows),
        "all_equal": all(r.get("weights_equal") for r in rows),
        "worst": max((r.get("weights_apart", math.inf) for r in rows), default=None),
    }
    checks = {"resume": _resumed, "same_seed_twice": _twice, "gpu_against_cpu": _against_cpu}
    checks["host_syncs"] = _syncs
    for name, check in checks.items():
        try:
            found[name] = check(args, size)
        except Exception as e:
            found[name] = f"{type(e).__name__}: {e}"[:500]
            say(traceback.format_exc())
        say.keep(found)
    return found


def _losses(trial, first: int) -> torch.Tensor:
    return torch.cat([trial.epoch(e) for e in (first, first + 1)]).double()


def _exact(args, stage: int, config, how: dict, size: dict) -> dict:
    first, model = how.get("first", 1), how.get("model")
    config = dataclasses.replace(config, precision="fp32")
    with (
        flags(deterministic=True, tf32=False),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        trials = [Trial(args, stage, config, h, model=model, size=size) for h in ("graph", "eager")]
        start = time.perf_counter()
        a = _losses(trials[0], first)
        seconds = time.perf_counter() - start
        b = _losses(trials[1], first)
    graph, eager = (t.weights() for t in trials)
    return {
        "kind": trials[0].update.kind,
        "graphs": len(trials[0].update.graphs),
        "first_seconds": round(seconds, 2),
        "losses_equal": bool(torch.equal(a, b)),
        "loss_apart": float(((a - b).abs() / b.abs()).max()),
        "weights_equal": all(torch.equal(x, eager[k]) for k, x in graph.items()),
        "weights_apart": apart(graph, eager),
        "warnings": sorted({str(w.message)[:200] for w in caught}),
    }


def _in_bf16(args, stage: int, config, how: dict, size: dict) -> dict:
    config, kinds = dataclasses.replace(config, precision="bf16"), ("graph", "eager", "graph")
    model, first = how.get("model"), how.get("first", 1)
    with flags():
        trials = [Trial(args, stage, config, h, model=model, size=size) for h in kinds]
        a, b, c = (_losses(t, first) for t in trials)
    return {
        "bf16_loss_apart": float(((a - b).abs() / b.abs()).max()),
        "bf16_twice_equal": bool(torch.equal(a, c)),
        "bf16_weights_apart": apart(trials[0].weights(), trials[1].weights()),
    }


def _against_cpu(args, size) -> list[dict]:
    rows = []
    for name, stage, config in (
        ("stage 1", 1, Stage1(precision="fp32", batch_size=32, crop_padding=1)),
        ("stage 2", 2, Stage2(precision="fp32", batch_size=32, crop_padding=1)),
    ):
        for tf32 in (False, True):
            with flags(deterministic=True, tf32=tf32):
                a, b = (
                    Trial(
                        args,
                        stage,
                        config,
                        h,
                        device=d,
                        model="resnet20",
                        size=size or {"n": 90, "classes": 20, "size": 32},
                    )
                    for h, d in (("graph", args.device), ("eager", "cpu"))
                )
                x, y = a.epoch(1).double(), b.epoch(1).double()
                rows.append(
                    {
                        "what": name,
                        "tf32": tf32,
                        "loss_apart": float(((x - y).abs() / y.abs()).max()),
                        "weights_apart": apart(a.weights(), b.weights()),
                        "first_loss": float(x[0]),
                        "on the CPU": float(y[0]),
                    }
                )
    return rows


def _resumed(args, size) -> dict:
    """Two epochs at once, against one, a checkpoint through a file, and another in a new update."""

    config = Stage1(batch_size=32 if args.tiny else 128, crop_padding=1, precision="fp32")
    with flags(deterministic=True, tf32=False):
        whole = Trial(args, 1, config, "graph", size=size)
        whole.epoch(1), whole.epoch(2)
        part = Trial(args, 1, config, "graph", size=size)
        part.epoch(1)
        state = {"model": part.model.state_dict(), "optimizer": part.optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        state = torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu", weights_only=True)
        other = Trial(args, 1, config, "graph", state=state, size=size)
        other.epoch(2)
        return {
            "equal": all(torch.equal(x, whole.weights()[k]) for k, x in other.weights().items()),
            "weights_apart": apart(other.weights(), whole.weights()),
        }


def _twice(args, size) -> list[dict]:
    """Whether the same seed gives the same weights, as it is and with H2T_DETERMINISTIC=1."""
    rows, own = [], {"batch_size": 32, "crop_padding": 1} if args.tiny else {"batch_size": 128}
    for asked in (False, True):
        for stage, kind in ((1, Stage1), (2, Stage2)):
            with flags(deterministic=asked, everywhere=asked):
                trials = [Trial(args, stage, kind(**own), "graph", size=size) for _ in range(2)]
                for trial in trials:
                    trial.epoch(1), trial.epoch(2)
            a, b = (trial.weights() for trial in trials)
            equal = all(torch.equal(x, b[k]) for k, x in a.items())
            row = {"what": f"stage {stage}", "deterministic": asked, "equal": equal}
            rows.append({**row, "weights_apart": apart(a, b)})
    return rows


def _syncs(args, size) -> dict:
    """Where the host waits for the GPU in an epoch of each stage, as torch's own watch sees it."""
    if args.device != "cuda":
        return {"said": "only on a GPU"}
    found = {}
    for name, stage, config in (
        ("stage 1", 1, Stage1(batch_size=128)),
        ("stage 2", 2, Stage2(batch_size=128)),
    ):
        trial = Trial(args, stage, config, "graph", size={"n": 1000, "classes": 20, "size": 32})
        trial.epoch(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            trial.epoch(2)
            torch.cuda.set_sync_debug_mode("default")
        where = collections.Counter(
            f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchron" in str(w.message)
        )
        found[name] = {
            "steps": 8,
            "syncs": sum(where.values()),
            "where": dict(where.most_common(8)),
        }
    return found


def section_fallback(args, say) -> dict:
    """A user's loss that waits for the host: the warning, the numbers, and whether the next update
    of this process is captured."""
    size = TOY if args.tiny else {}
    config = Stage1(precision="fp32", batch_size=32, crop_padding=1)
    found, expected = {}, Trial(args, 1, config, "eager", size=size)
    y = expected.epoch(1)
    trial = Trial(args, 1, config, "graph", size=size)
    own = trial.update.loss_of

    def waiting(*inputs):
        loss = own(*inputs)
        if args.device != "cuda" or torch.cuda.is_current_stream_capturing():
            loss.item()
        return loss

    trial.update.loss_of = waiting
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = trial.epoch(1)
    found |= {
        "kind": trial.update.kind,
        "warnings": [str(w.message)[:400] for w in caught],
        "loss_apart": float(((x - y).abs() / y.abs()).max()),
    }
    if args.device == "cuda":
        found["stream_is_default_afterwards"] = (
            torch.cuda.current_stream() == torch.cuda.default_stream()
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        after = Trial(args, 1, config, "graph", size=size)
        z = after.epoch(1)
    found["next"] = {
        "kind": after.update.kind,
        "warnings": [str(w.message)[:400] for w in caught],
        "loss_apart": float(((z - y).abs() / y.abs()).max()),
    }
    if args.device == "cuda":
        torch.cuda.empty_cache()
        found["empty_cache"] = "works"
    return found
