// One case and one layer at a time, behind a native slider. Without this script all layers stand side by side.
(() => {
  const start = (viewer) => {
    const cases = [...viewer.querySelectorAll(".case")];
    const range = viewer.querySelector("input[type=range]");
    const select = viewer.querySelector("select");
    const stops = [...viewer.querySelectorAll(".stops span")];
    let at = 0;

    const show = () => {
      cases.forEach((each, number) => {
        each.classList.toggle("shown", number === at);
        each.querySelectorAll(".layer").forEach((layer, place) => layer.classList.toggle("shown", place === +range.value));
      });
      const { label } = cases[at].querySelectorAll(".layer")[+range.value].dataset;
      range.setAttribute("aria-valuetext", label);
      viewer.querySelector(".layer-name").textContent = label;
      viewer.querySelector(".which").textContent = `Case ${at + 1} of ${cases.length}: ${cases[at].dataset.id}`;
      stops.forEach((stop, place) => stop.classList.toggle("shown", place === +range.value));
      viewer.querySelectorAll("[data-attribute]").forEach((part) =>
        part.classList.toggle("off", Boolean(select?.value) && part.dataset.attribute !== select.value));
    };
    const move = (step) => {
      at = (at + step + cases.length) % cases.length;
      show();
    };
    const slide = (step) => {
      range.value = +range.value + step;  // the slider keeps it within its ends
      show();
    };
    const keys = { n: () => move(1), p: () => move(-1), ArrowRight: () => slide(1), ArrowLeft: () => slide(-1) };

    range.addEventListener("input", show);
    select?.addEventListener("change", show);
    viewer.querySelectorAll("button").forEach((button) =>
      button.addEventListener("click", () => move(+button.dataset.step)));
    viewer.addEventListener("keydown", (event) => {
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const native = event.target === select || (event.target === range && key.startsWith("Arrow"));
      if (native || !keys[key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[key]();
    });
    viewer.querySelectorAll(".frame").forEach((frame) => frame.addEventListener("click", () => range.focus()));
    viewer.querySelectorAll(".controls, .help").forEach((part) => (part.hidden = false));
    viewer.classList.add("live");
    show();
  };
  document.querySelectorAll(".viewer:not(.live)").forEach(start);
})();
