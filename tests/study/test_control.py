"""Fusion by BN statistics: effects and tests against hand calculations, from runs of all kinds."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from h2t import Error, plots
from h2t.cli import main
from h2t.recipes.parameters import Stage2, variants
from h2t.study.compare import control
from tests import figures
from tests.synthetic import make_run, make_step

agg = figures.agg  # a fixture


def rows(
    units=5,
    fusion=0.2,
    statistics=1.0,
    interaction=0.0,
    noise=0.1,
    ratio=0.25,
    setting="",
    missing=(),
    seed=0,
    **more,
):
    """Rows as ``control.rows_of`` gives them, with effects put in."""
    generator, found = np.random.default_rng(seed), []
    for unit in range(units):
        base = generator.normal(0, 1)
        for fused, seen in itertools.product((0, 1), ("balanced", "both")):
            if (bool(fused), seen) not in missing:
                value = (
                    48
                    + base
                    + fusion * fused
                    + statistics * (seen == "both")
                    + interaction * fused * (seen == "both")
                )
                measures = {
                    m: value + shift + generator.normal(0, noise)
                    for m, shift in (
                        ("all", 0),
                        ("many", 15),
                        ("medium", 1),
                        ("few", -20),
                        ("ece", -45),
                    )
                }
                found.append(
                    {
                        "setting": setting,
                        "fusion_ratio": ratio * fused,
                        "statistics": seen,
                        "unit": str(unit),
                        "seed": unit,
                        **measures,
                        **more,
                    }
                )
    return pd.DataFrame(found)


def test_effects_are_those_of_a_hand_calculation():
    table = rows(interaction=-0.5)
    found = control.summarise(table)
    value = {(r.unit, r.fusion_ratio > 0, r.statistics): r.few for r in table.itertuples()}
    by_hand = {"fusion": [], "statistics": [], "interaction": []}
    for u in map(str, range(5)):
        a, b, c, d = (
            value[u, *cell]
            for cell in ((False, "balanced"), (False, "both"), (True, "balanced"), (True, "both"))
        )
        by_hand["fusion"].append(((c - a) + (d - b)) / 2)
        by_hand["statistics"].append(((b - a) + (d - c)) / 2)
        by_hand["interaction"].append((d - b) - (c - a))
    few = found.effects[found.effects["measure"] == "few"].set_index("effect")
    for name, d in by_hand.items():
        test = stats.ttest_1samp(d, 0)
        assert few.loc[name, "difference"] == pytest.approx(np.mean(d)) and few.loc[
            name, "p"
        ] == pytest.approx(test.pvalue)
        assert (few.loc[name, "low"], few.loc[name, "high"]) == pytest.approx(
            tuple(test.confidence_interval())
        )
    cells = found.cells[
        (found.cells["measure"] == "all")
        & found.cells["fusion"]
        & (found.cells["statistics"] == "both")
    ].iloc[0]
    of = table[(table["fusion_ratio"] > 0) & (table["statistics"] == "both")]["all"]
    assert (cells["n"], cells["mean"], cells["std"]) == (
        5,
        pytest.approx(of.mean()),
        pytest.approx(of.std(ddof=1)),
    )


def test_p_values_are_corrected_within_a_two_by_two():
    one = control.summarise(rows()).effects
    p = one["p"].to_numpy()
    order, highest = np.argsort(p), 0.0
    for k, i in enumerate(order):  # Holm, step by step
        highest = max(highest, min(1, p[i] * (len(p) - k)))
        assert one["p_holm"].iloc[i] == pytest.approx(highest)
    both = control.summarise(
        pd.concat([rows(setting="IF 100"), rows(setting="IF 50", seed=1)], ignore_index=True)
    ).effects
    assert both[both["setting"] == "IF 100"]["p_holm"].tolist() == pytest.approx(
        one["p_holm"].tolist()
    )


def test_every_ratio_has_a_two_by_two_with_the_same_unfused_cells():
    table = pd.concat(
        [rows(), rows(ratio=0.5, fusion=-1.0, seed=0).query("fusion_ratio > 0")], ignore_index=True
    )
    found = control.summarise(table)
    fusion = found.effects.query("effect == 'fusion' and measure == 'all'").set_index("ratio")[
        "difference"
    ]
    assert fusion.index.tolist() == [0.25, 0.5] and fusion[0.25] > 0 > fusion[0.5]
    assert set(control.summarise(table, 0.5).effects["ratio"]) == {0.5}
    with pytest.raises(Error, match="no stage 2 at fusion ratio 0.3; there are 0, 0.25, 0.5"):
        control.summarise(table, 0.3)


def test_where_a_cell_is_missing_the_others_speak_for_what_they_hold():
    found = control.summarise(rows(missing=[(True, "balanced")])).effects
    assert set(found["effect"]) == {"statistics, no fusion", "fusion, BN sees both"}
    assert found.query("effect == 'statistics, no fusion' and measure == 'all'")["difference"].iloc[
        0
    ] == pytest.approx(1.0, abs=0.3)
    with pytest.raises(Error, match="no two cells to compare; train runs with `-p control true`"):
        control.summarise(rows().query("fusion_ratio == 0 and statistics == 'both'"))


def test_what_is_said_is_what_survives_the_correction():
    sure = control.sentence(control.summarise(rows(fusion=0.0, statistics=2.0, noise=0.05)).effects)
    assert "statistics: all +2.0" in sure and "fusion: nothing beyond the noise" in sure
    alone = control.summarise(rows(units=1))
    assert (
        "(one stage 1): fusion: all " in control.sentence(alone.effects)
        and "points, not tested" in control.sentence(alone.effects)
        and control.sentence(alone.effects).endswith("Train more seeds of stage 1.")
        and alone.effects["p"].isna().all()
    )
    assert "**" not in control.markdown(alone) and " ± 0" not in control.markdown(alone)
    text = control.markdown(control.summarise(rows(statistics=2.0, noise=0.05)))
    assert (
        len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1
        and "**+2.0" in text
    )


def runs(root, seeds=3, cells=4, stage1s=None, **how):
    """Runs with all or some of the cells. ``stage1s`` how many different ones there are."""
    names = {4: ("dr", "dr-both", "h2t", "h2t-balanced"), 3: ("dr", "dr-both", "h2t")}[cells]
    for seed in range(seeds):
        run = make_run(
            root / f"s{seed}", seed if stage1s is None else seed % stage1s, names=(), **how
        )
        base = json.loads((run / "stage1" / "result.json").read_text())["weights_sha256"]
        for name, config in variants(
            Stage2(seed=seed, fusion_ratio=0.3, stage2_epochs=3), control=True
        ).items():
            if name in names:
                make_step(
                    run,
                    f"stage2-{name}",
                    config.to_dict(),
                    1 + 0.4 * ("both" in name),
                    (seed, name),
                    stage1_weights=base,
                )
    return root


def test_runs_in_a_folder_are_paired_by_stage_1(tmp_path):
    found = control.control(runs(tmp_path))
    assert set(found.effects["effect"]) == {"fusion", "statistics", "interaction"}
    assert set(found.effects["units"]) == {3} == set(found.effects["repeats"])
    assert set(found.effects["setting"]) == {""} and set(found.effects["ratio"]) == {0.3}
    assert control.control(tmp_path / "s0").effects["units"].max() == 1


def test_several_stage_2s_on_a_stage_1_are_one_unit_and_one_unit_is_not_tested(tmp_path):
    found = control.control(runs(tmp_path / "two", seeds=4, stage1s=2))
    assert set(found.effects["units"]) == {2} and set(found.effects["repeats"]) == {4}
    one = control.control(runs(tmp_path / "one", seeds=3, stage1s=1))
    assert set(one.effects["units"]) == {1} and one.effects["p_holm"].isna().all()
    said = control.sentence(one.effects)
    assert "(one stage 1 with 3 stage 2s)" in said and "not tested" in said
    text = control.markdown(one)
    row = one.effects.query("effect == 'fusion' and measure == 'all'").iloc[0]
    assert f"| {row['difference']:+.2f} ± {row['within']:.2f} |" in text and "**" not in text


def test_settings_are_what_else_varies(tmp_path):
    runs(tmp_path / "a", imbalance_factor=50.0)
    runs(tmp_path / "b", imbalance_factor=100.0, stage1_weight_decay=5e-4)
    found = control.control(tmp_path)
    assert set(found.effects["setting"]) == {
        "IF 50, stage1_weight_decay 0.0002",
        "IF 100, stage1_weight_decay 0.0005",
    }


def test_from_the_command_line(tmp_path):
    result = CliRunner().invoke(main, ["control", str(runs(tmp_path, cells=3))])
    assert result.exit_code == 0 and "statistics, no fusion" in result.output, result.output
    assert {p.name for p in tmp_path.glob("control*")} == {
        "control.md",
        "control.png",
        "control.pdf",
    }
    ledger = tmp_path / "ledger" / "control.csv"
    result = CliRunner().invoke(main, ["control", str(tmp_path), "--out", str(ledger)])
    assert result.exit_code == 0, result.output
    for file in (ledger, ledger.with_name("control_effects.csv")):
        row = pd.read_csv(file, dtype=str).iloc[0]
        assert row["revision"] == "a" * 8 and row["torch"] == "2" and row["seed"] == "0 1 2"
        assert len(row["split"]) == 8 and len(row["weights_sha256"].split()) >= 3
    row = pd.read_csv(ledger, dtype=str).iloc[0]
    assert f"| {row['all']} ± {row['all ±']} |" in (tmp_path / "control.md").read_text()
    make_run(tmp_path / "only", names=())
    bad = CliRunner().invoke(main, ["control", str(tmp_path / "only")])
    assert bad.exit_code == 2 and "holds no finished exact stage 2" in bad.output


def test_the_cached_cells_of_one_run(tmp_path):
    from h2t import train_stage1
    from h2t.base.machine import environment
    from h2t.train.cached import bank as banking
    from h2t.train.cached import fit as fitting
    from tests.helpers import digits_run, stage1_config, stage2_config

    run, _ = digits_run(tmp_path / "run")
    train_stage1(run, stage1_config(stage1_epochs=2), progress=False)
    small = {"stage2_epochs": 2, "batch_size": 64, "crop_padding": 1, "flip": False}
    table = control.cached_rows(run, 0.5, range(2), views=1, overrides=small, progress=False)
    assert len(table) == 8 and table["unit"].nunique() == 1 and set(table["seed"]) == {0, 1}
    # on this machine by today's code, wherever stage 1 came from
    assert set(table["device_name"]) == {environment()["cpu"]} and table["stage1_weights"].all()
    fits = fitting.fit(
        banking.open_bank(run, stage2_config(bn_statistics="balanced")),
        (0.0, 0.5),
        (0, 1),
        stage2_config(stage2_epochs=2),
    ).table()
    want = fits[(fits["ratio"] == 0.5) & (fits["seed"] == 1) & (fits["group"] == "all")][
        "accuracy"
    ].iloc[0]
    got = table[
        (table["fusion_ratio"] == 0.5) & (table["statistics"] == "balanced") & (table["seed"] == 1)
    ]["all"].iloc[0]
    assert got == pytest.approx(want)
    assert set(control.summarise(table).effects["effect"]) == {
        "fusion",
        "statistics",
        "interaction",
    }


def test_the_figure_of_one_two_by_two():
    found = control.summarise(rows(fusion=0.0, statistics=2.0, noise=0.05))
    axes = plots.plot_control(found.rows, found.effects)
    figures.drawn(axes)
    assert len(axes) == 4 and figures.legend_texts(axes[0]) == ["no fusion (DR)", "fusion (H2T)"]
    assert "statistics +2.0 ★" in axes[0].get_title(loc="left") and "fusion +0.0" in axes[
        0
    ].get_title(loc="left")
    assert len({round(float(np.ptp(ax.get_ylim())), 6) for ax in axes}) == 1  # slopes compare
    means = found.cells[(found.cells["measure"] == "few") & ~found.cells["fusion"]].set_index(
        "statistics"
    )["mean"]
    assert axes[3].lines[0].get_ydata().tolist() == pytest.approx(
        [means["balanced"], means["both"]]
    )
    assert (
        "(5 stage 1s): DR to H2T +2.0, the statistics alone +2.0"
        in plots.figure_of(axes)._suptitle.get_text()
    )
    empty = control.summarise(rows().assign(many=np.nan))
    assert len(plots.plot_control(empty.rows, empty.effects)) == 3


def test_every_two_by_two_has_its_figure(tmp_path):
    table = pd.concat([rows(setting=f"IF {k}", seed=k) for k in (50, 100)], ignore_index=True)
    control.draw(control.summarise(table), tmp_path / "c")
    assert {p.name for p in tmp_path.glob("*.png")} == {"c.png", "c_1.png"}
