"""List what variants set and where a comparison's results come from."""

from collections import Counter

from research.reporting.claims import planned_claims
from research.reporting.results import Results
from research.settings import leaves_of


def list_settings(results: Results) -> list[str]:
    """Return, for each variant, the settings that differ from those of most variants, and what was tuned."""
    entries = results.plan["variants"]
    settings_of = {name: leaves_of(entry["settings"]) for name, entry in entries.items() if "settings" in entry}
    counts: dict[str, Counter] = {}
    for settings in settings_of.values():
        for name, value in settings.items():
            counts.setdefault(name, Counter())[repr(value)] += 1
    usual = {}
    for name, count in counts.items():
        value, times = count.most_common(1)[0]
        usual[name] = value if times > len(settings_of) / 2 else None
    lines = []
    for variant, settings in settings_of.items():
        unusual = [f"{name}={value}" for name, value in settings.items() if repr(value) != usual[name]]
        lines.append(f"{variant}: `{', '.join(unusual) or 'nothing'}`")
    for variant, about in results.foreign.items():
        kind = "a model from Python" if about["kind"] == "model" else "predictions from a file"
        lines.append(f"{variant}, {kind}: `{about.get('shown', about['source'])}`")
    for variant, entry in entries.items():
        lines += [f"{variant}, {run}, tuned: `{' '.join(flags)}`" for run, flags in entry.get("tuned", {}).items()]
    return lines


def list_provenance(results: Results) -> list[str]:
    """Return the commands, checksums, versions and machine that reproduce the results."""
    plan = results.plan
    # Empty where they are not known.
    seconds = sum(row[part] or 0 for row in results.rows for part in ("compile_seconds", "train_seconds"))
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    of_a_run = ", whose `record.json` holds the command that makes it" if plan["command"] else ""
    return [
        f"command: `{plan['command']}`" if plan["command"] else "made by `research.compare`, from Python",
        *(f"before it, in the same folder: `{command}`" for command in plan.get("earlier_commands", ())),
        *_report_command(results),
        f"corpus checksum: `{plan['corpus']['checksum']}`",
        f"commit: `{plan['commit'] or 'unknown'}`; Python {plan['python']}; {versions}",
        f"machine: {plan.get('processor', 'unknown')}; devices {', '.join(plan['devices'])}; {plan.get('date', '')}",
        f"duration: {seconds / 60:.1f} minutes of compiling and training, runs added up",
        f"`results.csv` has one row per run with its scores and folder{of_a_run}",
    ]


def _report_command(results: Results) -> list[str]:
    """Return the command that makes the verdicts, if the comparison's own command makes other ones."""
    flags = claim_flags(results)
    return [f"verdicts: `./launch.sh report --workdir=FOLDER {' '.join(flags)}`"] if flags else []


def claim_flags(results: Results) -> list[str]:
    """Return the flags that ask for the claims of these results; none if they are those of the comparison."""
    claims, planned = results.claims, planned_claims(results.plan)
    flags = [f"--baseline={claims.baseline}"] if claims.baseline != planned.baseline else []
    if claims.all_pairs != planned.all_pairs:
        flags.append(f"--pairs={'all' if claims.all_pairs else 'baseline'}")
    if claims.metric != planned.metric:
        flags.append(f"--metric={claims.metric}")
    if claims.margin != planned.margin:
        flags.append(f"--margin={100 * claims.margin:g}")
    return flags
