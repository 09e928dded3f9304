"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const darkColours = JSON.parse(document.getElementById("dark").textContent);
const printWidth = 980;

function repaint(value) {
  if (typeof value === "string") return darkColours[value] ?? value;
  if (Array.isArray(value)) return value.map(repaint);
  if (value === null || typeof value !== "object" || "bdata" in value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, repaint(inner)]));
}

function setPath(target, path, value) {
  const keys = path.split(".");
  const last = keys.pop();
  for (const key of keys) target = target[key] ??= {};
  target[last] = value;
}

function applyView(figure, view) {
  if (view.traces) figure.data.forEach((trace, index) => { trace.visible = view.traces.includes(index); });
  for (const [path, value] of Object.entries(view.layout)) setPath(figure.layout, path, value);
}

const unescape = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function cut(text, length = 16) {
  const whole = unescape(String(text));
  const half = (length - 1) >> 1;
  return escape(whole.length <= length ? whole : `${whole.slice(0, half)}…${whole.slice(-half)}`);
}

// Names beside an axis leave a narrow figure no room; the hover text has them whole.
function cutNames(axis, traces) {
  if (axis.type === "category") {
    const names = axis.categoryarray ?? [...new Set(traces.flatMap((trace) => trace.y ?? []))];
    Object.assign(axis, { tickmode: "array", tickvals: names, ticktext: names.map((name) => cut(name)) });
  } else if (axis.ticktext) axis.ticktext = axis.ticktext.map((name) => cut(name));
  if (axis.type === "category" || axis.ticktext) axis.tickfont = { ...axis.tickfont, size: 10 };
}

function fit(figure, width) {
  const { layout } = figure;
  if (layout.showlegend && layout.legend?.orientation !== "h" && width <= 700) {
    layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom" };
    const named = figure.data.filter((trace) => trace.visible !== false && trace.showlegend !== false);
    layout.height += 21 * named.length;
  }
  if (width < 565) {
    cutNames(layout.yaxis, figure.data);
    for (const trace of figure.data) if (trace.name && layout.showlegend) trace.name = cut(trace.name, 34);
    for (const axis of [layout.xaxis, layout.yaxis]) if (axis.title) axis.title.font = { ...axis.title.font, size: 11 };
  }
  const narrow = layout.meta?.narrow;
  if (narrow && width < narrow.below)
    for (const [index, change] of Object.entries(narrow.traces)) Object.assign(figure.data[index], change);
}

function draw(plot, printing) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const views = figure.layout.meta?.views ?? [];
  if (views.length) applyView(figure, views[plot.view ?? 0]);
  const width = printing ? printWidth : plot.clientWidth;
  fit(figure, width);
  if (printing) figure.layout.width = width;
  const shown = dark.matches && !printing ? repaint(figure) : figure;
  const options = {
    displaylogo: false,
    showSendToCloud: false,
    plotlyServerURL: "",
    responsive: !printing,
    displayModeBar: printing ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: plot.dataset.figure },
  };
  Plotly.react(plot, shown.data, shown.layout, options);
}

function offerViews(plot) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const views = figure.layout.meta?.views ?? [];
  if (views.length < 2) return;
  const select = document.createElement("select");
  for (const view of views) select.add(new Option(view.label));
  select.addEventListener("change", () => {
    plot.view = select.selectedIndex;
    draw(plot, false);
  });
  const label = document.createElement("label");
  label.className = "views";
  label.append("Show", select);
  plot.before(label);
}

function compare(a, b) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function sortBy(header, index) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  const body = header.closest("table").tBodies[0];
  const key = (row) => row.cells[index].dataset.sort;
  const missing = (row) => key(row) === undefined;
  const rows = [...body.rows].sort((a, b) =>
    missing(a) || missing(b) || !descending ? compare(key(a), key(b)) : compare(key(b), key(a)));
  header.parentElement.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}

function save(button) {
  const text = document.getElementById(button.dataset.record).textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `${button.dataset.record}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const plots = [...document.querySelectorAll(".plot")];
const drawAll = (printing) => plots.forEach((plot) => draw(plot, printing));

plots.forEach(offerViews);
drawAll(matchMedia("print").matches);
dark.addEventListener("change", () => drawAll(false));
addEventListener("beforeprint", () => drawAll(true));
addEventListener("afterprint", () => drawAll(false));
document.querySelectorAll(".sortable thead tr:last-child").forEach((row) =>
  [...row.cells].forEach((header, index) =>
    header.querySelector("button")?.addEventListener("click", () => sortBy(header, index))));
document.querySelectorAll("[data-record]").forEach((button) =>
  button.addEventListener("click", () => save(button)));
