// The pointer over a dot, a bar and a cell of figures: what stands beside it.
const told = {};
const at = (name) => document.querySelector(`#${name} .plot`);
const point = (name, find) => {
  const plot = at(name);
  const drag = plot.querySelector(".nsewdrag");
  const mark = plot.querySelector(find).getBoundingClientRect();
  const where = { bubbles: true, clientX: mark.left + mark.width / 2, clientY: mark.top + mark.height / 2 };
  for (const kind of ["mouseover", "mousemove"]) drag.dispatchEvent(new MouseEvent(kind, where));
  return () => [...plot.querySelectorAll(".hoverlayer text")].map((text) => text.textContent).join(" ");
};
const asked = [
  ["mAP-latency_ms", ".scatterlayer .trace:nth-child(2) .point"],
  ["published", ".scatterlayer .trace:nth-child(2) .point"],
  ["confusion", ".heatmaplayer image, .heatmaplayer .hm image"],
  ["precision", ".scatterlayer .trace .js-line"],
];
const next = () => {
  const [name, find] = asked.shift() ?? [];
  if (!name) { document.body.dataset.hovered = JSON.stringify(told); return; }
  at(name).scrollIntoView({ block: "center" });
  const read = point(name, find);
  setTimeout(() => { told[name] = read(); next(); }, 300);
};
next();
