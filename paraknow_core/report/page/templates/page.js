"use strict";
// What a mark tells stands in its <title>, which a browser shows late and never after a touch.
// This shows it at once. Without this program the titles are as they were.
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  let held = null;

  function release() {
    if (held) held.mark.append(held.title);
    held = null;
    tip.hidden = true;
  }

  function place(event) {
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = event.clientY - tip.offsetHeight - 14;
    tip.style.left = `${Math.max(8, Math.min(room, event.clientX + 12))}px`;
    tip.style.top = `${above > 4 ? above : event.clientY + 18}px`;
  }

  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.(".mark, .catch, .catch-line");
    if (held && mark === held.mark) return;
    release();
    if (!mark) return;
    const title = mark.querySelector("title");
    held = { mark, title };
    tip.textContent = title.textContent;
    title.remove(); // or the browser would show it a second time
    tip.hidden = false;
    place(event);
  });
  document.addEventListener("pointermove", (event) => { if (held) place(event); });
  document.addEventListener("pointerleave", release);
  document.addEventListener("scroll", release, { capture: true, passive: true });
})();
