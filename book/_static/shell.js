// The frame of a page, made handier. Every page reads without it.
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const memory = (key) => ({
    get() { try { return localStorage.getItem(key); } catch { return null; } },
    set(value) { try { value ? localStorage.setItem(key, value) : localStorage.removeItem(key); } catch { /* private */ } },
  });
  const kept = memory("book-theme");
  const wanted = () => (system.matches ? "dark" : "light");

  // Before anything is drawn: the theme that was chosen here, else the system's.
  const paint = () => {
    root.dataset.theme = kept.get() || wanted();
    document.querySelector(".tool.theme")?.setAttribute("aria-pressed", root.dataset.theme === "dark");
  };
  paint();
  system.addEventListener("change", paint);

  // Whatever scrolls can be reached and scrolled by keyboard, and only that.
  const names = { pre: "Code", math: "Formula", table: "Table", svg: "Figure" };
  const reach = () => {
    for (const box of document.querySelectorAll(".bd-article :is(div, pre, figure)")) {
      const style = getComputedStyle(box);
      const scrolls =
        (box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(style.overflowX)) ||
        (box.scrollHeight > box.clientHeight + 1 && /auto|scroll/.test(style.overflowY));
      if (scrolls && !box.hasAttribute("tabindex")) {
        const kind = Object.keys(names).find((k) => box.matches(k) || box.querySelector(k));
        const name = box.querySelector("caption")?.textContent.trim() || names[kind] || "Content";
        for (const [a, v] of [["tabindex", "0"], ["role", "region"], ["aria-label", `${name}, scrolls`]])
          box.setAttribute(a, v);
        box.dataset.reached = "";
      } else if (!scrolls && "reached" in box.dataset) {
        for (const a of ["tabindex", "role", "aria-label", "data-reached"]) box.removeAttribute(a);
      }
    }
  };

  // The dataset switch: what the address names, else what was chosen last; a choice goes into both.
  const switchData = () => {
    const last = memory("book-data");
    const named = new URLSearchParams(location.search).get("data") || last.get();
    const option = [...document.querySelectorAll('input[name="data"]')].find((input) => input.value === named);
    if (option) option.checked = true;
    document.addEventListener("change", ({ target }) => {
      if (target.name !== "data") return;
      last.set(target.value);
      const here = new URL(location.href);
      here.searchParams.set("data", target.value);
      try { history.replaceState(null, "", here); } catch { /* a file has no history of its own */ }
    });
  };

  const offerCopy = (block) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("pre").textContent.trimEnd());
      button.textContent = "Copied";
      button.addEventListener("blur", () => (button.textContent = "Copy"), { once: true });
    });
    block.append(button);
  };

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector(".tool.theme");
    button.hidden = false;
    button.addEventListener("click", () => {
      const other = root.dataset.theme === "dark" ? "light" : "dark";
      kept.set(other === wanted() ? null : other);
      paint();
    });
    paint();

    switchData();
    const contents = document.getElementById("contents");
    contents.addEventListener("click", (event) => {
      if (event.target.closest("a") && contents.matches(":popover-open")) contents.hidePopover();
    });

    if (navigator.clipboard) document.querySelectorAll("div.highlight").forEach(offerCopy);
    reach();
    for (const event of ["change", "toggle"]) document.addEventListener(event, reach, true);
    new ResizeObserver(reach).observe(document.querySelector(".bd-article"));
  });
}
