// Tables that sort (by the shipped Tablesort) and copy themselves, and a mark on what is wider than its box.
// Without scripts they are plain tables.
(() => {
  // 10,115,501 is one number: commas between digits part thousands.
  const plain = (text) => text.replace(/(\d),(?=\d{3}(?!\d))/g, "$1").replace("−", "-");
  const number = (text) => parseFloat((plain(text).match(/[-+]?\d*\.?\d+(e[-+]?\d+)?/i) || ["NaN"])[0]);
  Tablesort.extend("number", (text) => /^\s*[-+−]?\.?\d/.test(text), (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return y - x;
  });
  const texts = (row) =>
    [...row.cells].flatMap((cell) => [cell.textContent.trim(), ...Array(cell.colSpan - 1).fill("")]);
  const tsv = (table) => [...table.rows].map((row) => texts(row).join("\t")).join("\n");
  // Rows that share their first label show it once, until they are sorted apart; blank cells come last either way.
  const mark = (table) => {
    let last;
    for (const row of table.tBodies[0].rows) {
      const [label, ...more] = row.querySelectorAll("th");
      if (!more.length) return;
      (label.textContent === last ? label : row).classList.add(label.textContent === last ? "again" : "group");
      last = label.textContent;
    }
  };
  const before = (table) =>
    table.querySelectorAll(".group, .again").forEach((part) => part.classList.remove("group", "again"));
  const after = (table) => {
    const place = table.querySelector("th[aria-sort]").cellIndex;
    const blank = [...table.tBodies[0].rows].filter((row) => !row.cells[place].textContent.trim());
    table.tBodies[0].append(...blank);
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch (refused) {  // pages from disk may not reach the clipboard: the old way
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const table of document.querySelectorAll("table.numbers")) {
    mark(table);
    new Tablesort(table);
    table.addEventListener("beforeSort", () => before(table));
    table.addEventListener("afterSort", () => after(table));
    const button = table.closest(".table")?.querySelector("button.copy");
    if (!button) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy(tsv(table));
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }
  const seen = new ResizeObserver((boxes) => boxes.forEach(({ target }) =>
    target.classList.toggle("cut", target.scrollWidth > target.clientWidth + 1)));
  document.querySelectorAll(".scroll").forEach((box) => seen.observe(box));
})();
