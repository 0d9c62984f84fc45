"use strict";
(() => {
  // Without any of these the static drawings stay, which say the same.
  if (!("DecompressionStream" in window && "IntersectionObserver" in window)) return;

  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();
  let loading = null;

  async function unpack() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function resolved(value) {
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    if (typeof value !== "string") return value;
    const plain = /^var\((--[a-z0-9]+)\)$/.exec(value);
    if (plain) return colour(plain[1]);
    const mixed = /^alpha\((--[a-z0-9]+),([0-9.]+)\)$/.exec(value);
    if (!mixed) return value;
    const [r, g, b] = colour(mixed[1]).match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
    return `rgba(${r},${g},${b},${mixed[2]})`;
  }

  function axis(given) {
    const line = colour("--rule");
    return {
      gridcolor: line, linecolor: line, zeroline: false, automargin: true, ...given,
      title: { font: { size: 12, color: colour("--soft") }, standoff: 8, ...(given.title || {}) },
    };
  }

  function layout(given, height) {
    const found = {
      height, margin: { l: 48, r: 12, t: 16, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
      hoverlabel: {
        bgcolor: colour("--card"), bordercolor: colour("--rule"),
        font: { color: colour("--ink"), size: 12 }, align: "left",
      },
      legend: { font: { size: 11 }, tracegroupgap: 0, itemsizing: "constant" },
      hovermode: "closest", dragmode: "zoom", ...resolved(given),
    };
    for (const name of Object.keys(found)) if (/^[xy]axis/.test(name)) found[name] = axis(found[name]);
    return found;
  }

  async function draw(place) {
    await (loading ??= unpack());
    if (!window.Plotly) return;
    let live = place.querySelector(":scope > .live");
    if (!live) {
      live = document.createElement("div");
      live.className = "live";
      live.dataset.height = place.getBoundingClientRect().height;
      place.append(live);
    }
    const spec = specs[place.dataset.spec];
    await window.Plotly.react(
      live, resolved(spec.data), layout(spec.layout, Math.max(200, Number(live.dataset.height))),
      { displaylogo: false, responsive: true, displayModeBar: false, showTips: false },
    );
    place.classList.add("is-live");
    drawn.add(place);
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "800px" });
  document.querySelectorAll("[data-spec]").forEach((place) => near.observe(place));
  dark.addEventListener("change", () => drawn.forEach(draw));
})();
