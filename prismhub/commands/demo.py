"""`prismhub demo`: run it, print how the encoder compares with its baselines, and say what to do next."""

from __future__ import annotations

from dataclasses import asdict

from prismhub.printing import print_json, print_table
from prismhub.progress import Show
from prismhub.settings import DemoSettings


def run_demo(settings: DemoSettings, program: str) -> None:
    """The demo of one classification adapter, or of every kind with `--all`; `program` is how this one is called."""
    show = Show(settings.output.quiet)
    (_every_kind if settings.all else _motions)(settings, show, program)


def _motions(settings: DemoSettings, show: Show, program: str) -> None:
    from prismhub.demo import demo

    done = demo(settings.out, settings.seed, show)
    if settings.output.json:
        compared, searched = asdict(done.comparison), done.searched.describe()
        print_json({"page": str(done.page), "comparison": compared, "search": searched})
        return
    print_table(*done.comparison.table())
    print(f"per cent of {done.first.result.n_evaluated} test videos named right, in brackets the 95 % interval;")
    print(f"which motion: {done.comparison.verdict(0)}")
    print(f"searched by words for {done.searched.text!r}: {done.searched.verdict()}")
    print_table(*done.searched.table())
    print(f"the page: {done.page.resolve().as_uri()}")
    print(f"in a browser:              {program} serve --archive {done.searched.archive} --adapter {done.first.ref}")
    asked = '--labels "moving left,moving right,approaching,receding" --template "something {}"'
    print(f"next, a video of yours:    {program} zero-shot VIDEO {asked}")
    print(f"the demo's adapter on it:  {program} predict VIDEO --adapter {done.first.ref}")
    train = "train --data my_videos/ --adapter map_classifier --encoder nano --name my-adapter"
    print(f"then classes of yours:     {program} {train}")


def _every_kind(settings: DemoSettings, show: Show, program: str) -> None:
    from prismhub.demo_all import demo_all
    from prismhub.demo_clips import WHO
    from prismhub.pages.demo_page import contest_table

    done = demo_all(settings.out, settings.seed, show, settings.llm)
    if settings.output.json:
        print_json(done.describe())
        return
    print_table(*contest_table(done.contests))
    print("in brackets the 95 % interval; clearly beaten: the intervals do not touch")
    print(f"the figures: {done.figures}")
    print(f"the page: {done.page.resolve().as_uri()}")
    asked = " ".join(f"--adapter {name}" for name in done.trained if name != WHO)  # which wants boxes
    print(f"next, a video of yours:  {program} predict VIDEO {asked} --html answers.html")
