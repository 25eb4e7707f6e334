"""The live page in a browser: sliders, toggles, the event picker and clicks on pixels do what they say."""
import json
import shutil
import subprocess
import threading

import h5py
import numpy as np
import pytest
from report_runs import geometry_text, make_run

from mpixfel.report.live import Run
from mpixfel.report.page import web
from mpixfel.report.server import ROUTES, make_server

BROWSER = shutil.which("chromium")
SIDE, EVENTS = 64, 4
# What a person would do, one thing after the other; what is then seen stands in the page as JSON.
DRIVER = """
const seen = {}, wait = ms => new Promise(done => setTimeout(done, ms));
const until = async test => { for (let k = 0; k < 400 && !test(); k++) await wait(20); };
const set = (id, value) => {
  if (at(id).type === "checkbox") at(id).checked = value; else at(id).value = value;
  for (const kind of ["input", "change"]) at(id).dispatchEvent(new Event(kind));
};
const mean = () => {
  const canvas = at("canvas"), data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0, n = 0;
  for (let i = 0; i < grey.length; i++) if (grey[i]) { sum += data[4 * i]; n++; }
  return sum / n;
};
const displayed = e => getComputedStyle(e).display !== "none";
const visible = name => [...document.querySelectorAll("#marks ." + name)].some(displayed);
(async () => {
  await until(() => shown !== null);
  set("kind", "all");
  await until(() => list.length === EVENTS);
  set("row", INDEXED);
  await until(() => shown.row === INDEXED);
  seen.as_chosen = mean();
  const black = at("black").value;
  set("black", black / 4);
  seen.darker = mean();
  set("black", black);
  set("white", 900);
  set("black", 1000);
  seen.lighter = mean();
  for (const name of ["peaks", "predictions", "rings"]) {
    const before = visible(name);
    set(name, false);
    const without = visible(name);
    set(name, true);
    seen[name] = [before, without, visible(name)];
  }
  set("zoom", "2");
  await wait(50);
  seen.zoomed = at("stack").getBoundingClientRect().width / at("canvas").width;
  set("zoom", "fit");
  const box = at("canvas").getBoundingClientRect();
  seen.places = [];
  for (const [column, line] of [[20, 30], [100, 20], [66, 66], [110, 90]]) {
    at("pixel").textContent = "";
    at("canvas").dispatchEvent(new MouseEvent("click", {bubbles: true,
      clientX: box.left + (column + 0.5) / shown.columns * box.width,
      clientY: box.top + (line + 0.5) / shown.rows * box.height}));
    await until(() => at("pixel").textContent !== "");
    seen.places.push([column, line, at("pixel").textContent]);
  }
  set("row", 0);
  await until(() => shown.row === 0);
  document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  await until(() => shown.row === 1);
  seen.after_arrow = shown.row;
  at("previous").click();
  await until(() => shown.row === 0);
  seen.after_previous = shown.row;
  const told = document.createElement("pre");
  told.id = "seen";
  told.textContent = JSON.stringify(seen);
  document.body.append(told);
})();
"""


def frames():
    """(EVENTS, 4 SIDE, SIDE) raw: each pixel's value tells its panel and place."""
    ss, fs = np.mgrid[:4 * SIDE, :SIDE]
    return (1000 * (ss // SIDE) + 10 * (ss % SIDE) + fs % 10 + 1 + np.arange(EVENTS)[:, None, None]).astype(np.uint16)


@pytest.fixture
def run(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as f:
        f["data"] = frames()
    folder = make_run(tmp_path / "run", EVENTS, geometry_text(2, 2, SIDE), seed=3)
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, "paths": [str(tmp_path / "run.h5")]}))
    return folder


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_sliders_toggles_pickers_and_clicks_do_what_they_say(run, tmp_path, monkeypatch):
    indexed = next(row[0] for row in Run(run).events("indexed")["rows"])
    driver = DRIVER.replace("EVENTS", str(EVENTS)).replace("INDEXED", str(indexed))
    monkeypatch.setitem(ROUTES, "/driver.js", (ROUTES["/serve.js"][0], lambda run, ask, token: driver))
    page = web("serve.html").replace("</body>", '<script src="/driver.js?token=TOKEN" defer></script></body>')
    monkeypatch.setitem(ROUTES, "/", (ROUTES["/"][0], lambda run, ask, token: page.replace("TOKEN", token)))
    server = make_server(run)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                               "--disable-sync",
                               "--disable-background-networking", "--disable-component-update",
                               "--window-size=1200,1400",
                               f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=60000", "--dump-dom",
                               server.url],
                              capture_output=True, text=True, timeout=200)
    finally:
        server.shutdown()
        server.server_close()
    assert '<pre id="seen">' in done.stdout, done.stdout[-2000:]
    seen = json.loads(done.stdout.split('<pre id="seen">')[1].split("</pre>")[0].replace("&gt;", ">"))
    assert seen["darker"] < seen["as_chosen"] - 20 and seen["lighter"] > seen["as_chosen"] + 20
    assert all(seen[name] == [True, False, True] for name in ("peaks", "predictions", "rings"))
    assert seen["zoomed"] == pytest.approx(2, abs=0.02)
    assert (seen["after_arrow"], seen["after_previous"]) == (1, 0)
    raw = frames()[indexed]
    for column, line, told in seen["places"]:
        check_click(raw, column, line, told)


def check_click(raw, column, line, told):
    """The value told is that of the raw pixel of the panel told; and the panel is that at this place of the picture."""
    if "no panel" in told:
        assert {column, line} & set(range(SIDE, SIDE + 4)), told       # the gap of 4 pixels
        return
    words = told.replace(",", "").split()
    value, panel, fs, ss = float(words[0]), words[3], int(words[5]), int(words[7])
    assert panel == f"p{line // (SIDE + 4)}{column // (SIDE + 4)}"
    number = 2 * int(panel[1]) + int(panel[2])
    assert value == pytest.approx(raw[number * SIDE + ss, fs], rel=1e-3), told
    assert abs(fs - column % (SIDE + 4)) <= 2 and abs(ss - line % (SIDE + 4)) <= 2, told
