"use strict";
(() => {
  const data = JSON.parse(document.getElementById("episode-data").textContent);
  const table = document.getElementById("episode-table");
  const head = table.tHead.rows[0];
  const body = table.tBodies[0];
  const text = document.getElementById("filter-text");
  const outcome = document.getElementById("filter-outcome");
  const count = document.getElementById("episode-count");
  const more = document.getElementById("episode-more");
  const STEP = 25;
  const film = data.columns.indexOf("film");
  const MARKS = { success: "✓ success", failure: "✗ failure", error: "! error" };
  const digits = data.columns.map((_, at) => Math.max(0, ...data.rows.map((row) =>
    typeof row[at] === "number" ? (String(row[at]).split(".")[1] || "").length : 0)));
  const words = data.rows.map((row) => row.slice(0, film).join(" ").toLowerCase());
  const numeric = data.columns.map((_, at) => data.rows.every((row) => typeof row[at] === "number"));
  let order = data.rows.map((_, index) => index);
  let sorted = { column: -1, down: false };
  let shown = STEP;

  function cell(row, at) {
    const td = document.createElement("td");
    if (at === 0) {
      td.textContent = MARKS[row[0]];
      td.className = `mark ${row[0]}`;
    } else if (at === film) {
      if (row[at]) {
        const link = document.createElement("a");
        link.href = `#${row[at]}`;
        link.textContent = "film";
        td.append(link);
      }
    } else {
      td.textContent = numeric[at] ? row[at].toFixed(digits[at]) : row[at];
      if (numeric[at]) td.className = "number";
    }
    return td;
  }

  function draw() {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = order.filter((index) =>
      (!outcome.value || data.rows[index][0] === outcome.value) &&
      wanted.every((word) => words[index].includes(word)));
    body.replaceChildren(...found.slice(0, shown).map((index) => {
      const tr = document.createElement("tr");
      tr.append(...data.columns.map((_, at) => cell(data.rows[index], at)));
      return tr;
    }));
    const visible = Math.min(shown, found.length);
    count.textContent = found.length === 0 ? "No episode fits." :
      `${visible} of ${found.length} episode${found.length === 1 ? "" : "s"}` +
      (found.length < data.rows.length ? ` that fit, of ${data.rows.length}` : "");
    more.hidden = visible === found.length;
  }

  function sort(column) {
    const down = sorted.column === column && !sorted.down;
    sorted = { column, down };
    const compare = numeric[column]
      ? (a, b) => a - b
      : (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });
    order = data.rows.map((_, index) => index).sort((a, b) =>
      (down ? -1 : 1) * compare(data.rows[a][column], data.rows[b][column]) || a - b);
    [...head.cells].forEach((th, at) => {
      if (at === column) th.setAttribute("aria-sort", down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    });
    draw();
  }

  data.columns.forEach((name, at) => {
    const th = document.createElement("th");
    th.scope = "col";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => sort(at));
    if (numeric[at]) th.className = "number";
    th.append(button);
    head.append(th);
  });
  const restart = () => { shown = STEP; draw(); };
  text.addEventListener("input", restart);
  outcome.addEventListener("change", restart);
  more.addEventListener("click", () => { shown += 8 * STEP; draw(); });
  draw();

  // A film is decoded when it comes into view, and runs only there.
  let running = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const toggle = document.getElementById("films-toggle");
  const inView = new Set();

  function load(video) {
    if (video.src) return;
    const bytes = Uint8Array.from(atob(video.dataset.film), (c) => c.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    delete video.dataset.film;
  }
  // Leaving the view in time breaks a start off: that is no error.
  const run = (video) => video.play().catch(() => {});

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        load(target);
        inView.add(target);
        if (running) run(target);
      } else {
        inView.delete(target);
        target.pause();
      }
    }
  });

  document.querySelectorAll(".player").forEach((player) => {
    const video = player.querySelector("video");
    const time = player.querySelector(".time");
    const say = () => player.setAttribute("aria-pressed", String(!video.paused));
    video.addEventListener("play", say);
    video.addEventListener("pause", say);
    video.addEventListener("timeupdate", () => {
      time.style.width = `${100 * video.currentTime / video.duration}%`;
    });
    player.addEventListener("click", () => {
      load(video);
      if (video.paused) run(video);
      else video.pause();
    });
    watcher.observe(video);
  });

  if (toggle) {
    const label = () => { toggle.textContent = running ? "Stop all films" : "Run all films"; };
    label();
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      running = !running;
      inView.forEach((video) => running ? run(video) : video.pause());
      label();
    });
  }
})();
