const boxOf = (element) => element.getBoundingClientRect();
const meet = (a, b) => a.width && b.width && a.left < b.right - 1 && b.left < a.right - 1
  && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const faults = [];
for (const plot of document.querySelectorAll(".plot")) {
  const frame = boxOf(plot.querySelector(".main-svg"));
  const texts = [...plot.querySelectorAll("text")].filter((text) => text.textContent.trim() && !text.closest(".hoverlayer"));
  for (const text of texts) {
    const box = boxOf(text);
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      faults.push(plot.dataset.figure + ": leaves the frame: " + text.textContent);
  }
  const bar = plot.querySelector(".modebar-group") && boxOf(plot.querySelector(".modebar"));
  const legend = plot.querySelector(".legend");
  if (legend && bar && meet(boxOf(legend), bar)) faults.push(plot.dataset.figure + ": legend under the toolbar");
  const names = texts.filter((text) => text.closest(".textpoint") || text.closest(".legend"));
  names.forEach((a, i) => names.slice(i + 1).forEach((b) => {
    if (meet(boxOf(a), boxOf(b))) faults.push(plot.dataset.figure + ": overprint: " + a.textContent + " and " + b.textContent);
  }));
}
const frames = [...document.querySelectorAll(".frame")];
for (const frame of frames) {
  const scroll = frame.querySelector(".scroll");
  const cut = scroll.scrollWidth > scroll.clientWidth + 1;
  if (cut === frame.querySelector(".more").hidden) faults.push("a hint is missing, or one too many");
  if (boxOf(scroll).right > document.documentElement.clientWidth + 1) faults.push("a table runs out of the page");
}
document.body.dataset.cut = frames.filter((frame) => frame.classList.contains("cut-right")).length;
document.body.dataset.faults = JSON.stringify(faults);
