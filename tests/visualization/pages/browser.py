"""A headless Chromium for tests of pages: driven over a pipe, without a driver and without a network."""
from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions',
    '--disable-background-networking', '--disable-component-update', '--hide-scrollbars', '--mute-audio',
    '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist',
    '--host-resolver-rules=MAP * ~NOTFOUND')
"""WebGL is computed on the processor; no host name is ever resolved."""


def find_browser() -> str | None:
    """The program of a Chromium or Chrome, None where there is none; PERCEPTION_BROWSER names one."""
    named = os.environ.get('PERCEPTION_BROWSER')
    return named or next(filter(None, map(shutil.which, (
        'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)


class Browser:
    """One page in a browser of its own.

    Args:
        profile: an empty folder for the browser.
        size_px: width and height of the window.
        webgl: whether the page gets it.

    Attributes:
        errors: what the page wrote as an error, threw, or tried to fetch and could not.
        requests: addresses that it asked for.
    """

    def __init__(
        self, profile: Path, size_px: tuple[int, int] = (1400, 900), webgl: bool = True
    ) -> None:
        program = find_browser()
        if program is None:
            raise RuntimeError('no Chromium: install one or name it in PERCEPTION_BROWSER')
        read_in, self._write = os.pipe()
        self._read, write_out = os.pipe()

        def take_pipes() -> None:
            # Chromium reads commands from 3 and writes answers to 4
            source, target = os.dup(read_in), os.dup(write_out)
            os.dup2(source, 3)
            os.dup2(target, 4)

        words = [
            program, *FLAGS, f'--user-data-dir={profile}', f'--window-size={size_px[0]},{size_px[1]}',
            *([] if webgl else ['--disable-3d-apis']), '--remote-debugging-pipe', 'about:blank']
        self._process = subprocess.Popen(
            words, preexec_fn=take_pipes, close_fds=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(read_in)
        os.close(write_out)

        self._buffer, self._number, self._session, self._loaded = b'', 0, None, False
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._attach(size_px)

    def _attach(self, size_px: tuple[int, int]) -> None:
        targets = self.call('Target.getTargets')['targetInfos']
        page = next(target['targetId'] for target in targets if target['type'] == 'page')
        self._session = self.call('Target.attachToTarget', targetId=page, flatten=True)['sessionId']

        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        width, height = size_px
        self.call(
            'Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
            mobile=False)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol; gives its result."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters}
        if self._session is not None:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')

        while True:
            answer = self._next_message(60.0)
            if answer.get('id') == self._number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']

    def _next_message(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f'the browser said nothing for {seconds:.0f} s')
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError(f'the browser ended with status {self._process.poll()}')
            self._buffer += data

        text, self._buffer = self._buffer.split(b'\0', 1)
        message = json.loads(text)
        self._note(message.get('method'), message.get('params', {}))
        return message

    def _note(self, method: str | None, said: dict[str, Any]) -> None:
        if method == 'Page.loadEventFired':
            self._loaded = True
        elif method == 'Runtime.exceptionThrown':
            details = said['exceptionDetails']
            self.errors.append(details.get('exception', {}).get('description') or details['text'])
        elif method == 'Runtime.consoleAPICalled' and said['type'] in ('error', 'assert'):
            words = [part.get('value', part.get('description')) for part in said['args']]
            self.errors.append(' '.join(map(str, words)))
        elif method == 'Log.entryAdded' and said['entry']['level'] == 'error':
            self.errors.append(said['entry']['text'])
        elif method == 'Network.requestWillBeSent':
            self.requests.append(said['request']['url'])

    def open(self, page: Path) -> None:
        """Open a file of the disk; its scripts have run then, what they wait for has not come yet."""
        self._loaded = False
        self.call('Page.navigate', url=page.resolve().as_uri())
        while not self._loaded:
            self._next_message(60.0)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript in the page; a promise is waited for."""
        answer = self.call(
            'Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True)
        if 'exceptionDetails' in answer:
            raise RuntimeError(answer['exceptionDetails'].get('exception', {}).get('description'))
        return answer['result'].get('value')

    def wait(self, condition: str, seconds: float = 30.0) -> float:
        """Wait until JavaScript gives something true; gives the seconds it took."""
        begin = time.monotonic()
        while not self.evaluate(f'Boolean({condition})'):
            if time.monotonic() - begin > seconds:
                raise TimeoutError(f'{condition} was not true after {seconds} s; errors: {self.errors}')
            time.sleep(0.05)
        return time.monotonic() - begin

    def picture(self, path: Path) -> Path:
        """The page as it is on the screen, as a PNG."""
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot')['data']))
        return path

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._read)
        os.close(self._write)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
