"""The web page of a run: who may ask, what may be asked for, and what is answered."""
import http.client
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from report_runs import make_run
from mpixfel.report.server import ROUTES, make_server

BROWSER = shutil.which("chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = make_server(make_run(tmp_path_factory.mktemp("serve") / "run", 120))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def ask(server, path, token=True, method="GET", headers=None):
    """(status, headers, body) of one request, with the path sent as it is."""
    url = urlsplit(server.url)
    if token:
        path += ("&" if "?" in path else "?") + url.query
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": url.netloc, **(headers or {})}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def spellings():
    """100 ways to ask for /etc/passwd."""
    dots = ["..", "%2e%2e", "%2E%2E", ".%2e", "%252e%252e", "..%00", "%c0%ae%c0%ae", "..;", "....", "%u002e%u002e"]
    slashes = ["/", "%2f", "\\", "%5c", "//", "%252f", "/./", "%c0%af", ";/", "/%2e/"]
    return [f"/{s.join([d] * 6)}{s}etc{s}passwd" for d in dots for s in slashes]


@pytest.mark.parametrize("token", [True, False])
def test_no_path_leads_out_of_the_run(server, token):
    paths = spellings()
    assert len(paths) == 100
    for path in [*paths, *(p[1:] for p in paths[:3]), "/etc/passwd", "file:///etc/passwd", "/api/../../etc/passwd",
                 "/api/event?row=../../etc/passwd", "/api/image?row=%2e%2e%2fetc"]:
        status, _, body = ask(server, path, token)
        assert status in (400, 403, 404) and b"root:" not in body, path


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_nothing_is_told_without_the_token(server, path):
    for wrong in ("", "?token=", "?token=wrong", "?token=" + "x" * 32, "?token=%ff"):
        assert ask(server, path + wrong, token=False)[0] == 403


@pytest.mark.parametrize("headers",
                         [{"Origin": "http://elsewhere.example"}, {"Origin": "null"}, {"Host": "elsewhere.example"},
                                     {"Host": "127.0.0.1.elsewhere.example:80"}, {"Sec-Fetch-Site": "cross-site"},
                          {"Host": ""}])
def test_other_sites_cannot_ask(server, headers):
    assert ask(server, "/api/status", headers=headers)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_written(server, method):
    assert ask(server, "/api/status", method=method)[0] in (405, 501)


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_answers_are_not_kept_and_cannot_be_framed(server):
    _, headers, _ = ask(server, "/")
    assert headers["Cache-Control"] == "no-store" and headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_tunnel_may_use_another_port(server):
    assert ask(server, "/api/status", headers={"Host": "localhost:9999"})[0] == 200


def test_lists_hold_the_events_of_their_kind(server):
    indexed = json.loads(ask(server, "/api/events?kind=indexed")[2])
    all_ = json.loads(ask(server, "/api/events?kind=all")[2])
    assert all_["total"] == 120
    assert [r[0] for r in indexed["rows"]] == [r[0] for r in all_["rows"] if r[1] == "indexed"]
    assert ask(server, "/api/events?kind=other")[0] == 400


def test_an_event_that_is_not_there_is_answered_in_words(server):
    status, _, body = ask(server, "/api/event?row=99999")
    assert status == 400 and b"there is no event 99999" in body


def test_pixels_images_and_marks_belong_to_the_run(shared_data, tmp_path):
    """On the simulated frames: the value at a place of the picture is that of the pixel which the geometry puts
    there."""
    import numpy as np
    from mpixfel.io.geometry import read_geometry
    from mpixfel.io.sources import open_source
    from mpixfel.report.live import Run

    folder = shared_data / "lyso-easy"
    text = (folder / "lyso-easy.geom").read_text()
    make_run(tmp_path / "run", 3, text)
    job = json.loads((tmp_path / "run" / "job.json").read_text())
    (tmp_path / "run" / "job.json").write_text(json.dumps({**job, "paths": [str(folder / "lyso-easy.h5")],
                                                           "options": {"mpixfel.events": "0:3"}}))
    run = Run(tmp_path / "run")
    raw = open_source([str(folder / "lyso-easy.h5")], read_geometry(folder / "lyso-easy.geom")).event(1).raw[0]
    event = run.event(1)
    found = [run.pixel(1, column, 100) for column in range(50, 300, 25)]
    assert all(p["panel"] is not None for p in found)
    good = [p for p in found if p["photons"] is not None]
    assert good and np.allclose([p["photons"] for p in good], [raw[p["ss"], p["fs"]] for p in good], rtol=0.1, atol=1)
    assert run.image(1).startswith(b"\x89PNG") and event["marks"].startswith('<g class="rings">')
    run.close()


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_a_browser_shows_the_run(server, tmp_path):
    done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                           "--disable-background-networking", "--disable-component-update", "--disable-sync",
                           f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=20000", "--dump-dom",
                           server.url + "#plots"], capture_output=True, text=True, timeout=200)
    assert "120 of 120 events" in done.stdout
    assert len(re.findall(r'id="plot-[\w-]+"', done.stdout)) >= 8
    assert "main-svg" in done.stdout


def test_the_page_asks_for_nothing_that_the_server_does_not_have():
    web = Path(__file__).resolve().parents[1] / "mpixfel" / "report" / "web"
    asked = set(re.findall(r'"(/[\w./]{4,})', (web / "serve.html").read_text() + (web / "serve.js").read_text()))
    assert asked and asked <= set(ROUTES)
