"use strict";
// The live page of a run. Everything is asked for with the token; nothing is ever sent but questions.
const token = document.body.dataset.token;
const at = id => document.getElementById(id);
const address = (path, query = {}) => path + "?" + new URLSearchParams({...query, token});
const ask = async (path, query) => {
  const answer = await fetch(address(path, query));
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};
const element = (name, text, kind = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
};
const percent = share => share === null ? "-" : (100 * share).toFixed(1) + " %";
let shown = null, grey = null, list = [], first = 0, page = "events", disk = -1;

async function status() {
  const s = await ask("/api/status");
  at("name").textContent = s.run;
  document.title = s.run + " - mpixfel";
  const left = s.state === "running" && s.seconds_left ? `, about ${Math.ceil(s.seconds_left / 60)} min left` : "";
  at("state").textContent = s.learning ? `learning: ${s.learning}` : `${s.state}, ${s.done} of ${s.total} events${left}`;
  at("done").style.width = 100 * s.done / Math.max(1, s.total) + "%";
  const cell = s.cells.length ? s.cells[0].mean.map(x => x.toFixed(2)).join(" ") : "-";
  const tiles = [[s.done, "events"], [s.hits, "hits, " + percent(s.hit_rate)], [s.indexed, "indexed, " + percent(s.indexing_rate) + " of hits"],
                 [s.events_per_second ? s.events_per_second.toFixed(1) + "/s" : "-", "events a second"], [s.failed, "failed"]];
  at("tiles").replaceChildren(...tiles.map(([value, words]) => {
    const tile = element("div", "", "tile");
    tile.append(element("b", value), element("span", words));
    return tile;
  }));
  const facts = [["cell", cell], ["ranks", s.n_ranks], ["host", s.host], ["on disk", s.on_disk + " events"],
                 ["not indexed", s.reasons.map(([why, n]) => `${why} ${n}`).join(", ")], ["warnings", s.warnings.join("\n")]];
  at("facts").replaceChildren(...facts.map(([name, value]) => {
    const row = element("tr", "");
    row.append(element("td", name), element("td", value, "text"));
    return row;
  }));
  if (s.on_disk !== disk) {
    disk = s.on_disk;
    await events();
    if (page === "plots") await plots();
  }
  if (["running", "learning", "unknown"].includes(s.state)) setTimeout(() => status().catch(trouble), 3000);
}

async function events() {
  const found = await ask("/api/events", {kind: at("kind").value, first});
  list = found.rows;
  at("total").textContent = found.total ? `${first + 1} to ${first + list.length} of ${found.total}` : "none";
  at("earlier").disabled = first === 0;
  at("later").disabled = first + list.length >= found.total;
  at("rows").replaceChildren(...list.map(([row, , peaks, lattices, indexed]) => {
    const line = element("tr", "");
    line.dataset.row = row;
    line.append(...[row, peaks, lattices, indexed].map(v => element("td", v, "n")));
    line.addEventListener("click", () => show(row));
    return line;
  }));
  mark();
  if (shown === null && list.length) await show(list[0][0]);
}

function mark() {
  for (const line of at("rows").children) line.classList.toggle("here", shown !== null && Number(line.dataset.row) === shown.row);
}

const picture = source => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done(image);
  image.onerror = () => failed(new Error("the image cannot be read"));
  image.src = source;
});

async function show(row) {
  try {
    const event = await ask("/api/event", {row});
    const bitmap = await picture(address("/api/image", {row}));
    const canvas = at("canvas");
    [canvas.width, canvas.height] = [event.columns, event.rows];
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, event.columns, event.rows).data;
    grey = new Uint8Array(event.columns * event.rows);
    for (let i = 0; i < grey.length; i++) grey[i] = pixels[4 * i];
    if (shown === null) sliders(event);
    shown = event;
    at("row").value = row;
    const cells = event.cells.map(c => c.map(x => x.toFixed(2)).join(" ")).join("; ");
    at("told").textContent = [`event ${row} (${event.name})`, event.outcome, `${event.n_peaks} peaks`,
                              `${event.photon_energy_ev.toFixed(1)} eV`, cells && "cell " + cells, event.message].filter(Boolean).join(", ");
    const marks = at("marks");
    marks.setAttribute("viewBox", `0 0 ${event.columns} ${event.rows}`);
    marks.innerHTML = event.marks;
    paint();
    mark();
    at("pixel").textContent = "click on the image for a pixel's value";
  } catch (error) { trouble(error); }
}

// Sliders are square roots of photons: fine steps where weak spots are.
const photons = id => shown_range.low + (Number(at(id).value) / 1000) ** 2 * (shown_range.high - shown_range.low);
let shown_range = {low: 0, high: 1};
function sliders(event) {
  shown_range = {low: event.low, high: event.high};
  for (const id of ["white", "black"])
    at(id).value = 1000 * Math.sqrt(Math.max(0, (event[id] - event.low) / (event.high - event.low)));
}

function paint() {
  if (grey === null) return;
  const white = photons("white"), black = Math.max(photons("black"), white + 1e-6);
  at("white-value").textContent = white.toPrecision(3);
  at("black-value").textContent = black.toPrecision(3);
  const shade = new Uint8Array(256);
  for (let v = 1; v < 256; v++) {
    const value = shown.low + ((v - 1) / 254) ** 2 * (shown.high - shown.low);
    shade[v] = 255 - 255 * Math.min(1, Math.max(0, (value - white) / (black - white)));
  }
  shade[0] = 236;
  const canvas = at("canvas"), context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < grey.length; i++) {
    const s = shade[grey[i]];
    image.data[4 * i] = image.data[4 * i + 1] = s;
    image.data[4 * i + 2] = grey[i] ? s : 224;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  const zoom = at("zoom").value;
  at("stack").style.width = zoom === "fit" ? "100%" : Number(zoom) * canvas.width + "px";
  for (const id of ["peaks", "predictions", "rings"]) document.body.classList.toggle("no-" + id, !at(id).checked);
}

async function pixel(click) {
  const box = at("canvas").getBoundingClientRect();
  const place = {column: Math.floor((click.clientX - box.left) / box.width * shown.columns),
                 line: Math.floor((click.clientY - box.top) / box.height * shown.rows)};
  const p = await ask("/api/pixel", {row: shown.row, ...place});
  const where = `x ${p.x_mm.toFixed(2)} mm, y ${p.y_mm.toFixed(2)} mm`;
  at("pixel").textContent = p.panel === null ? `no panel here, ${where}` :
    `${p.photons === null ? "bad pixel" : p.photons.toPrecision(4) + " photons"}, panel ${p.panel}, fs ${p.fs}, ss ${p.ss}, ` +
    `${p.d_angstrom.toFixed(2)} Å, ${where}`;
}

async function plots() {
  const found = await ask("/api/figures");
  const options = {responsive: true, displaylogo: false};
  for (const f of found) {
    if (at("plot-" + f.name) === null) {
      const slot = element("div", "", "figure" + (f.layout.wide ? " wide" : ""));
      const box = element("div", "");
      box.id = "plot-" + f.name;
      box.style.height = f.layout.height + "px";
      slot.append(element("h3", f.title), box);
      at("grid").append(slot);
    }
    at("plot-" + f.name).previousSibling.textContent = f.title;
    Plotly.react("plot-" + f.name, f.data, f.layout, options);
  }
}

function open_page(name) {
  page = name;
  for (const button of document.querySelectorAll("nav button")) {
    button.classList.toggle("here", button.dataset.page === name);
    at(button.dataset.page).hidden = button.dataset.page !== name;
  }
  location.hash = name;
  if (name === "plots") plots().catch(trouble);
}

function step(by) {
  const here = list.findIndex(line => shown && line[0] === shown.row);
  const line = list[Math.max(0, Math.min(list.length - 1, here + by))];
  if (line) show(line[0]);
}

function trouble(error) { at("told").textContent = "mpixfel serve: " + error.message; }

for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => open_page(button.dataset.page));
for (const id of ["white", "black", "peaks", "predictions", "rings", "zoom"]) at(id).addEventListener("input", paint);
at("kind").addEventListener("change", () => { first = 0; events().catch(trouble); });
at("earlier").addEventListener("click", () => { first = Math.max(0, first - 500); events().catch(trouble); });
at("later").addEventListener("click", () => { first += 500; events().catch(trouble); });
at("row").addEventListener("change", () => show(Number(at("row").value)));
at("previous").addEventListener("click", () => step(-1));
at("next").addEventListener("click", () => step(1));
at("canvas").addEventListener("click", click => pixel(click).catch(trouble));
document.addEventListener("keydown", key => {
  if (key.target.tagName === "INPUT" || page !== "events") return;
  if (key.key === "ArrowRight") step(1);
  if (key.key === "ArrowLeft") step(-1);
});
if (["plots", "more"].includes(location.hash.slice(1))) open_page(location.hash.slice(1));
status().catch(trouble);
