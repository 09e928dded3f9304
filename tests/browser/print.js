// The page as it is printed, and as it is after that.
const plots = [...document.querySelectorAll(".plot")];
const widths = () => [...new Set(plots.map((plot) => plot.querySelector(".main-svg").getAttribute("width")))].join();
const inks = () => [...new Set([...document.querySelectorAll(".xtitle")].map((text) => text.style.fill))].join();
const state = () => ({ widths: widths(), inks: inks(), zoom: document.querySelector("#trials table").style.zoom });
const before = state();
dispatchEvent(new Event("beforeprint"));
const printed = state();
dispatchEvent(new Event("afterprint"));
document.body.dataset.printed = JSON.stringify({ before, printed, after: state() });
