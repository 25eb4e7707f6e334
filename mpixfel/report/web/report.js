"use strict";
// Draws the figures of the page, and lets its pictures be enlarged and their marks be switched off.
const figures = JSON.parse(document.getElementById("figures").textContent);
const options = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "shareChart", "sendDataToCloud"],
                 toImageButtonOptions: {format: "svg"}};
for (const f of figures) Plotly.newPlot("plot-" + f.name, f.data, f.layout, options);
for (const picture of document.querySelectorAll(".picture svg"))
  picture.addEventListener("click", () => picture.parentElement.classList.toggle("large"));
for (const box of document.querySelectorAll(".toggles input"))
  box.addEventListener("change", () => document.body.classList.toggle("no-" + box.value, !box.checked));
window.addEventListener("beforeprint", () => {
  for (const f of figures) Plotly.Plots.resize("plot-" + f.name);
});
document.body.dataset.drawn = String(figures.length);
