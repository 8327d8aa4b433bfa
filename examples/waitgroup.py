"""Follow all links of a site, however many there turn out to be.

    python -m examples.waitgroup

Each page that is found is fetched by a task of its own, which may find more. Nobody knows how many
there will be: the WaitGroup counts those under way, and the end is when there are none.
"""

from __future__ import annotations

import greenpump as gp

SITE = {
    "/": ["/news", "/about", "/shop"],
    "/news": ["/", "/news/1", "/news/2"],
    "/news/1": ["/news", "/news/2"],
    "/news/2": ["/news/1"],
    "/about": ["/", "/about/jobs"],
    "/about/jobs": [],
    "/shop": ["/gone"],
}


class Crawl:
    """All pages that can be reached."""

    def __init__(self, site: dict[str, list[str]]) -> None:
        self.site = site
        self.running = gp.WaitGroup()
        self.seen: dict[str, str] = {}

    def visit(self, path: str) -> None:
        """Have a page fetched that was not seen before."""
        if path not in self.seen:
            self.seen[path] = "on its way"
            self.running.go(self.fetch, path)

    def fetch(self, path: str) -> None:
        """Fetch one page and visit what it links to."""
        gp.sleep(0.001)  # a site far away
        if path not in self.site:
            self.seen[path] = "missing"
            return
        self.seen[path] = "ok"
        for link in self.site[path]:
            self.visit(link)


def main() -> None:
    crawl = Crawl(SITE)
    crawl.visit("/")
    crawl.running.wait()
    for path, state in sorted(crawl.seen.items()):
        print(f"{path}: {state}")


if __name__ == "__main__":
    main()
