// A click on a heading sorts the table, another one the other way; what is typed leaves the rows that hold it.
for (const th of document.querySelectorAll("th[data-sort]"))
  th.onclick = () => {
    const body = th.closest("table").tBodies[0], down = th.dataset.sort !== "down";
    const value = (row) => {
      const text = row.cells[th.cellIndex].innerText.trim(), number = parseFloat(text);
      return isNaN(number) ? text : number;
    };
    const compare = (a, b) => {
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      return a < b ? -1 : a > b ? 1 : 0;
    };
    const rows = [...body.rows].sort((a, b) => compare(value(a), value(b)) * (down ? -1 : 1));
    body.append(...rows);
    th.dataset.sort = down ? "down" : "up";
  };
const find = document.querySelector("#find");
find.oninput = () => {
  const words = find.value.toLowerCase().split(/ +/);
  for (const row of document.querySelectorAll("#runs tbody tr"))
    row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
};
