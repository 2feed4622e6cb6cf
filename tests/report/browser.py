"""A real browser for tests: Debian's headless Chromium unpacked into a cache, spoken to through a pipe.

Nothing is installed, and nothing is left running. The protocol is Chromium's own (DevTools), a JSON message ended by a
zero byte: https://chromedevtools.github.io/devtools-protocol.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

CACHE = Path(os.environ.get("SCALELAB_TEST_CACHE", platformdirs.user_cache_dir("scalelab-tests"))) / "browser"
PACKAGE = "chromium-headless-shell"
PROGRAM = Path("usr") / "lib" / "chromium" / "chromium-headless-shell"
SECONDS = 30.0  # for an answer
HIGH = 10  # file descriptors from here on are nobody's


class NotHere(Exception):
    """A browser cannot be had on this machine, and why."""


def program(cache: Path) -> tuple[Path, dict[str, str]]:
    """A headless Chromium with the environment that it needs, fetched by apt-get (86 MB) unless it is there.

    Raises:
        NotHere: without apt, without network, or where it does not start.
    """
    root = cache / "root"
    if not (root / PROGRAM).exists():
        _fetch(cache, root)
    libraries = sorted({str(file.parent) for file in (root / "usr" / "lib").rglob("*.so*")})
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}
    tried = _run([str(root / PROGRAM), "--version"], env=environment)
    if tried.returncode:
        raise NotHere(f"Chromium does not start: {tried.stderr.strip()[-300:]}")
    return root / PROGRAM, environment


def _fetch(cache: Path, root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NotHere("no apt-get and dpkg-deb here: the browser for the tests is Debian's")
    asked = _run(["apt-get", "-s", "--no-install-recommends", "install", PACKAGE])
    names = [line.split()[1] for line in asked.stdout.splitlines() if line.startswith("Inst ")]
    if PACKAGE not in names:
        raise NotHere(f"apt-get knows no {PACKAGE}: {(asked.stderr or asked.stdout).strip()[-300:]}")
    packages, made = cache / f"packages.{os.getpid()}", cache / f"made.{os.getpid()}"
    packages.mkdir(parents=True)
    _run(["apt-get", "download", "-q", *names], cwd=packages)
    for package in packages.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(made)])
    shutil.rmtree(packages)
    if not (made / PROGRAM).exists():
        raise NotHere(f"apt-get download {PACKAGE}: it came to nothing; is there a network, and apt-get update done?")
    with contextlib.suppress(OSError):  # another process was as fast
        made.rename(root)


def _run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


@dataclass(kw_only=True)
class Page:
    """A page that is open. `requests` are the addresses it asked for, `errors` what went wrong while it was shown."""

    send: int
    receive: int
    session: str | None = None
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _number: int = 0
    _left: bytes = b""
    _loaded: bool = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one of the protocol's methods."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._take(answer)
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def open(self, file: Path, *, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Show a file in a window of this size, in CSS pixels, and wait until it is loaded."""
        self.requests.clear()
        self.errors.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=file.absolute().as_uri())
        while not self._loaded:
            self._take(self._next())

    def of(self, expression: str) -> Any:
        """The value of a JavaScript expression there, as JSON has it; of a promise, what comes of it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def picture(self, *, whole: bool = True) -> bytes:
        """What is to be seen, as PNG: the whole page or the window."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        return base64.b64decode(found["data"])

    def printed(self) -> bytes:
        """The page on paper, as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _clip(self, whole: bool) -> Mapping[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}}

    def _take(self, message: Mapping[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(parameters["entry"]))
        elif method == "Page.loadEventFired":
            self._loaded = True

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while b"\0" not in self._left:
            ready, _, _ = select.select([self.receive], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self.receive, 1 << 20)
            assert read, "the browser has ended"
            self._left += read
        text, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found


@contextlib.contextmanager
def browsing(cache: Path, folder: Path) -> Iterator[Page]:
    """A browser with a page for as long as this lasts; its profile is in `folder`."""
    at, environment = program(cache)
    to_it, send = os.pipe()
    receive, from_it = os.pipe()
    # It reads from 3 and writes to 4, wherever ours happen to be.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, HIGH) for end in (to_it, from_it)]
    os.close(to_it)
    os.close(from_it)
    process = subprocess.Popen(
        [str(at), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
         "--disable-background-networking", "--no-first-run", f"--user-data-dir={folder}"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=(3, 4), start_new_session=True,
        preexec_fn=lambda: (os.dup2(theirs[0], 3), os.dup2(theirs[1], 4)),
    )  # fmt: skip
    for end in theirs:
        os.close(end)
    try:
        page = Page(send=send, receive=receive)
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        process.kill()
        process.wait()
        os.close(send)
        os.close(receive)
