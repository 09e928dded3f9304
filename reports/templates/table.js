// What a reader does with a table: filter, choose columns and a baseline, ask where a number is from.

const parse = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const provenance = parse("provenance-data");
const baselines = parse("baselines-data");
const PARTS = /^(.+?)(>=|<=|>|<|=)(.+)$/;
const plainText = (cell) => (cell.firstChild?.textContent ?? "").trim();
const asNumber = (text) => Number.parseFloat(text.replace(/[≈~,\s]/g, "").replace("−", "-"));
const squeezed = (text) => text.toLowerCase().replace(/[\s_.,]/g, "");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const headers = (table) => [...table.tHead.rows[1].cells];

function meets(row, word, heads) {
  const [, name, sign, wanted] = PARTS.exec(word) ?? [];
  const index = name ? heads.findIndex((head) => squeezed(head.textContent).startsWith(squeezed(name))) : -1;
  if (index < 0) return row.textContent.toLowerCase().includes(word);
  const shown = plainText(row.cells[index]);
  const [x, y] = [asNumber(shown), asNumber(wanted)];
  if (sign === "=") return Number.isNaN(y) ? shown.toLowerCase().includes(wanted) : x === y;
  return { ">": x > y, "<": x < y, ">=": x >= y, "<=": x <= y }[sign];
}

function filterRows(table, text, said) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) row.hidden = !words.every((word) => meets(row, word, headers(table)));
  const shown = rows.filter((row) => !row.hidden).length;
  said.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  rove(table);
}

function showColumn(table, index, shown) {
  for (const row of [table.tHead.rows[1], ...table.tBodies[0].rows]) row.cells[index].hidden = !shown;
  let start = 0;
  for (const group of table.tHead.rows[0].cells) {
    const width = Number(group.dataset.span ??= group.colSpan);
    const left = headers(table).slice(start, start + width).filter((head) => !head.hidden).length;
    group.hidden = left === 0;
    group.colSpan = Math.max(left, 1);
    start += width;
  }
  hint(table.closest(".frame"));
}

function signed(value) {
  const text = Math.abs(value).toFixed(1);
  return Number(text) === 0 ? "0.0" : (value > 0 ? "+" : "−") + text;
}

function difference(key, a, b, i, j) {
  if (key === "latency_ratio") {
    const found = baselines.ratios[i][j];
    if (!found) return null;
    const [ratio, low, high] = found;
    const tie = low <= 1 && 1 <= high;
    return { text: (tie ? "≈ " : "") + ratio.toFixed(3), small: `${low.toFixed(3)} to ${high.toFixed(3)}`, sort: ratio, tie };
  }
  const metric = key.replace("_delta", "");
  const [x, y] = [a[metric], b[metric]];
  if (x === null || y === null || (metric === "mAP" ? a.data !== b.data : x === 0)) return null;
  const value = metric === "mAP" ? 100 * (y - x) : 100 * (y / x - 1);
  return { text: signed(value), small: "", sort: value };
}

function compareWith(table, chosen) {
  const compared = headers(table).map((head, index) => [head.dataset.key, index])
    .filter(([key]) => /_delta$|^latency_ratio$/.test(key ?? ""));
  for (const row of table.tBodies[0].rows) {
    const own = Number(row.dataset.row);
    for (const [key, index] of [["number", 0], ...compared]) {
      const cell = row.cells[index];
      cell.kept ??= { nodes: [...cell.childNodes], sort: cell.dataset.sort, title: cell.title, tie: cell.classList.contains("tie") };
      restore(cell);
      if (chosen === null) continue;
      if (key === "number") { mark(cell, own === chosen); continue; }
      put(cell, own === chosen ? "" : difference(key, baselines.trials[chosen], baselines.trials[own], chosen, own));
    }
  }
}

function restore(cell) {
  const { nodes, sort, title, tie } = cell.kept;
  cell.replaceChildren(...nodes);
  sort === undefined ? delete cell.dataset.sort : cell.dataset.sort = sort;
  cell.title = title;
  cell.classList.toggle("tie", tie);
}

function mark(cell, isBaseline) {
  const kept = (cell.querySelector("small")?.textContent ?? "").replace(/^baseline(, )?/, "");
  const words = [isBaseline ? "baseline" : "", kept].filter(Boolean).join(", ");
  const rest = cell.kept.nodes.filter((node) => node.nodeName !== "SMALL");
  cell.replaceChildren(...rest, ...(words ? [make("small", { textContent: words })] : []));
}

function put(cell, found) {
  delete cell.dataset.sort;
  cell.classList.toggle("tie", Boolean(found?.tie));
  if (found === "" || found === null) {
    cell.replaceChildren(found === "" ? "" : "–");
    cell.title = found === "" ? "differences are shown to this trial" : "nothing that was measured compares the two";
    return;
  }
  cell.replaceChildren(found.text, ...(found.small ? [" ", make("small", { textContent: found.small })] : []));
  cell.title = "worked out from the record of both";
  cell.dataset.sort = found.sort;
}

function offerTools(table) {
  const said = make("span", { className: "said" });
  said.setAttribute("role", "status");
  const filter = make("input", { type: "search", placeholder: "words, or mAP>40" });
  filter.addEventListener("input", () => filterRows(table, filter.value, said));
  const tools = make("div", { className: "tools" }, make("label", {}, "Filter ", filter), said);
  if (baselines?.trials && table.dataset.anchor === "note" && headers(table).some((head) => head.dataset.key === "mAP_delta" || head.dataset.key === "latency_ratio")) {
    const select = make("select");
    select.add(new Option("as the study has it", ""));
    baselines.trials.forEach((trial, index) => select.add(new Option(trial.label, index)));
    select.addEventListener("change", () => compareWith(table, select.value === "" ? null : Number(select.value)));
    tools.append(make("label", {}, "Baseline ", select));
  }
  const boxes = headers(table).flatMap((head, index) => {
    if (index === 0 || !head.dataset.key) return [];
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => showColumn(table, index, box.checked));
    return [make("label", {}, box, ` ${head.textContent}`)];
  });
  tools.append(make("details", {}, make("summary", { textContent: "Columns" }), make("div", { className: "boxes" }, ...boxes)));
  table.closest(".frame").before(tools);
}

function hint(frame) {
  const box = frame.querySelector(".scroll");
  const rest = box.scrollWidth - box.clientWidth - box.scrollLeft;
  frame.classList.toggle("cut-right", rest > 1);
  frame.classList.toggle("cut-left", box.scrollLeft > 1);
  const edge = box.getBoundingClientRect().right;
  const cut = headers(box.querySelector("table")).filter((head) => !head.hidden && head.getBoundingClientRect().right > edge + 1).length;
  const more = frame.querySelector(".more");
  more.hidden = box.scrollWidth - box.clientWidth <= 1;
  more.firstElementChild.textContent = rest > 1 ? `${cut} more column${cut > 1 ? "s" : ""} →` : "← back to the first column";
}

function scrollOn(frame) {
  const box = frame.querySelector(".scroll");
  const atEnd = box.scrollWidth - box.clientWidth - box.scrollLeft <= 1;
  box.scrollTo({ left: atEnd ? 0 : box.scrollLeft + 0.7 * box.clientWidth });
}

function explain(cell) {
  const table = cell.closest("table");
  const told = provenance?.[table.dataset.anchor]?.[Number(cell.parentElement.dataset.row)];
  if (!told) return;
  const head = headers(table)[cell.cellIndex];
  const small = cell.querySelector("small")?.textContent;
  const value = plainText(cell) + (small ? ` (${small})` : "");
  const name = head?.innerText.trim() ?? "";
  const list = make("dl");
  const samples = told.samples[head?.dataset.key] ?? told.samples[(head?.dataset.key ?? "").replace("_delta", "")];
  const rows = [["meaning", head?.title ?? ""], ["taken from", samples], ["note", cell.cellIndex === 0 ? "" : cell.title], ...told.facts];
  for (const [term, text] of rows) if (text) list.append(make("dt", { textContent: term }), make("dd", { textContent: text }));
  const shut = make("button", { type: "button", textContent: "Close" });
  const dialog = make("dialog", { className: "provenance" }, make("h2", { textContent: cell.cellIndex === 0 ? `Trial ${plainText(cell)}` : `${name}: ${value}` }), list, shut);
  shut.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { dialog.remove(); cell.focus(); });
  document.body.append(dialog);
  dialog.setAttribute("aria-label", "Where this number comes from");
  dialog.showModal();
}

const cellsOf = (row) => [...row.cells].filter((cell) => !cell.hidden && !cell.classList.contains("raw"));

function rove(table, target) {
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
  table.querySelectorAll("tbody [tabindex]").forEach((cell) => cell.removeAttribute("tabindex"));
  const cell = target ?? (rows.length ? cellsOf(rows[0])[0] : undefined);
  cell?.setAttribute("tabindex", "0");
  if (target) { target.focus({ preventScroll: true }); target.scrollIntoView({ block: "nearest", inline: "nearest" }); }
}

function step(event) {
  const cell = event.target.closest("td, th");
  if (event.target !== cell || !cell.hasAttribute("tabindex")) return;
  const table = cell.closest("table");
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const [y, x] = [rows.indexOf(cell.parentElement), cellsOf(cell.parentElement).indexOf(cell)];
  const moves = { ArrowUp: [y - 1, x], ArrowDown: [y + 1, x], ArrowLeft: [y, x - 1], ArrowRight: [y, x + 1], Home: [y, 0], End: [y, Infinity] };
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); explain(cell); return; }
  const [row, column] = moves[event.key] ?? [];
  if (row === undefined) return;
  event.preventDefault();
  const line = rows[Math.min(Math.max(row, 0), rows.length - 1)];
  rove(table, cellsOf(line)[Math.min(Math.max(column, 0), cellsOf(line).length - 1)]);
}

document.querySelectorAll(".frame").forEach((frame) => {
  const table = frame.querySelector("table");
  const box = frame.querySelector(".scroll");
  box.addEventListener("scroll", () => hint(frame), { passive: true });
  frame.querySelector(".more button").addEventListener("click", () => scrollOn(frame));
  new ResizeObserver(() => hint(frame)).observe(box);
  if ("tools" in table.dataset) offerTools(table);
  if (!provenance?.[table.dataset.anchor]) return;
  table.classList.add("explained");
  table.tBodies[0].addEventListener("keydown", step);
  table.tBodies[0].addEventListener("click", (event) => {
    const cell = event.target.closest("td, th");
    if (!cell || event.target.closest("a, button") || cell.classList.contains("raw") || String(getSelection())) return;
    explain(cell);
  });
  rove(table);
});
addEventListener("beforeprint", () => document.querySelectorAll(".frame table").forEach((table) => {
  table.style.zoom = Math.min(1, printWidth / table.scrollWidth);
}));
addEventListener("afterprint", () => document.querySelectorAll(".frame table").forEach((table) => { table.style.zoom = ""; }));
