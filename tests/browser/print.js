// The page as it is printed, and as it is after that.
const drawn = [...document.querySelectorAll(".plot")];
const widths = () => [...new Set(drawn.map((plot) => plot.querySelector(".main-svg").getAttribute("width")))].join();
const inks = () => [...new Set([...document.querySelectorAll(".xtitle")].map((text) => text.style.fill))].join();
const state = () => ({ widths: widths(), inks: inks(), zoom: document.querySelector("#trials table").style.zoom });
const found = { before: state() };
dispatchEvent(new Event("beforeprint"));
setTimeout(() => {
  found.printed = state();
  dispatchEvent(new Event("afterprint"));
  setTimeout(() => {
    found.after = state();
    document.body.dataset.printed = JSON.stringify(found);
  }, 500);
}, 500);
