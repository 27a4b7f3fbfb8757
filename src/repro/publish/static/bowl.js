// The noisy quadratic of Zhang et al. (2019), worked out in closed form: repro.theory.noisy_quadratic.decay_and_noise.
// Directions i = 1 … 10,000 of curvature 1/i^a and noise s/i^a; steps until a hundredth of the loss is left.
(() => {
  const SIZES = Array.from({ length: 21 }, (_, k) => 2 ** k), AHEAD = 4, HAIR = 1e-9;
  const STEPS = [...new Set(Array.from({ length: 110 }, (_, k) => Math.round(10 ** ((6 * k) / 109))))];
  const RATES = [0.98, 0.95, 0.9, 0.8, 0.7, 0.6, ...Array.from({ length: 24 }, (_, k) => 2 ** (-1 - k / 2))];

  function groups(a) { // curvature and number of directions: the first thirty alone, then in bins
    const found = [];
    for (let i = 1; i <= 10000; ) {
      const last = Math.min(10000, i < 30 ? i : Math.ceil(i * 1.12));
      let sum = 0;
      for (let j = i; j <= last; j++) sum += j ** -a;
      found.push([sum / (last - i + 1), last - i + 1]);
      i = last + 1;
    }
    return found;
  }

  const sum = (r, t) => (Math.abs(1 - r) < HAIR ? t : (r * (1 - r ** t)) / (1 - r)); // Σ rᵏ, k = 1 … t

  // What is left of a start, and what noise of one adds, both squared, after t steps.
  function moments(trace, m, t) {
    let gap = trace * trace - 4 * m;
    if (Math.abs(gap) < HAIR) gap = HAIR;
    if (gap > 0) {
      const root = Math.sqrt(gap), p = (trace + root) / 2, q = (trace - root) / 2;
      const u = (k) => (p ** k - q ** k) / root;
      return [(u(t + 1) - m * u(t)) ** 2, (sum(p * p, t) - 2 * sum(p * q, t) + sum(q * q, t)) / gap];
    }
    const size = Math.sqrt(m), angle = Math.acos(trace / (2 * size)), sine = size * Math.sin(angle);
    const u = (k) => (size ** k * Math.sin(k * angle)) / sine;
    const [x, y] = [m * Math.cos(2 * angle), m * Math.sin(2 * angle)]; // Re Σ zᵏ = Re z (1 - zᵗ)/(1 - z)
    const [v, w] = [1 - m ** t * Math.cos(2 * t * angle), -(m ** t) * Math.sin(2 * t * angle)];
    const [c, d] = [x * v - y * w, x * w + y * v];
    return [(u(t + 1) - m * u(t)) ** 2, (sum(m, t) - (c * (1 - x) - d * y) / ((1 - x) ** 2 + y * y)) / (2 * sine * sine)];
  }

  // By batch size the least steps over learning rates, and the rate that takes them.
  function curve({ a, noise, m }) {
    const bowl = groups(a), least = SIZES.map(() => [Infinity, NaN]);
    const target = 1e-2 * bowl.reduce((all, [h, n]) => all + h * n, 0);
    for (const share of RATES) {
      const rate = (share * 2 * (1 + m)) / bowl[0][0];
      const [kept, drawn] = [[], []];
      for (const t of STEPS) {
        let [left, added] = [0, 0];
        for (const [h, n] of bowl) {
          const [k, d] = moments(1 + m - rate * h, m, t);
          left += n * h * k;
          added += 0.5 * n * h * noise * h * d * rate * rate;
        }
        kept.push(left - target);
        drawn.push(added);
      }
      SIZES.forEach((size, b) => {
        const above = kept.map((left, i) => left + drawn[i] / size);
        const first = above.findIndex((_, i) => i + AHEAD <= above.length && above.slice(i, i + AHEAD).every((x) => x <= 0));
        if (first < 0) return;
        const part = first ? above[first - 1] / (above[first - 1] - above[first]) : 1;
        const before = Math.log(STEPS[Math.max(first - 1, 0)]);
        const steps = Math.exp(before + part * (Math.log(STEPS[first]) - before));
        if (steps < least[b][0]) least[b] = [steps, rate];
      });
    }
    return least;
  }

  const digits = (x, n = 3) => Number(x.toPrecision(n)).toLocaleString("en", { maximumSignificantDigits: n });

  function draw(figure) {
    const value = (name) => Number(figure.querySelector(`[name=${name}]`).value);
    const told = { a: value("spectrum"), noise: 2 ** value("noise"), m: value("momentum"), size: 2 ** value("size") };
    const shown = { spectrum: told.a.toFixed(1), noise: `×${digits(told.noise)}`, momentum: told.m.toFixed(2), size: digits(told.size, 7) };
    for (const [name, text] of Object.entries(shown)) figure.querySelector(`output[for=bowl-${name}]`).textContent = text;
    const plain = curve({ ...told, m: 0 }), moving = told.m ? curve(told) : plain;
    const live = figure.querySelector("svg.live"), width = Math.max(300, Math.min(720, figure.clientWidth)), height = 360;
    const finite = [...plain, ...moving].map(([s]) => s).filter(Number.isFinite);
    const [low, high] = [Math.floor(Math.log10(Math.min(...finite))), Math.ceil(Math.log10(Math.max(...finite)))];
    const [left, right] = [80, width - 36];
    const x = (size) => left + ((right - left) * Math.log2(size)) / 20;
    const y = (steps) => 28 + ((height - 84) * (high - Math.log10(steps))) / Math.max(high - low, 1);
    const text = (at, up, said, anchor = "middle", fill = "muted") =>
      `<text x="${at}" y="${up}" text-anchor="${anchor}" style="fill:var(--${fill});font-size:15px">${said}</text>`;
    const line = (points, colour, dash) => {
      const path = points.map(([s], b) => (Number.isFinite(s) ? `${x(SIZES[b]).toFixed(1)},${y(s).toFixed(1)}` : "")).join(" ");
      return `<polyline points="${path.trim()}" fill="none" style="stroke:var(--${colour});stroke-width:2.5;stroke-dasharray:${dash}"/>`;
    };
    let drawn = "";
    for (let k = low; k <= high; k++)
      drawn += `<path d="M${left} ${y(10 ** k)}H${right}" style="stroke:var(--grid)"/>${text(left - 8, y(10 ** k) + 5, (10 ** k).toLocaleString("en"), "end")}`;
    for (const k of width < 500 ? [0, 6, 12, 20] : [0, 4, 8, 12, 16, 20])
      drawn += text(x(2 ** k), height - 32, (2 ** k).toLocaleString("en"));
    drawn += text((left + right) / 2, height - 8, "batch size B") + text(4, 16, "steps to the target", "start");
    drawn += `<path d="M${x(told.size)} 28V${height - 56}" style="stroke:var(--muted);stroke-dasharray:3 4"/>`;
    drawn += line(plain, "s1", "none") + line(moving, "s2", "7 4");
    live.setAttribute("viewBox", `0 0 ${width} ${height}`);
    live.innerHTML = drawn;
    const at = SIZES.indexOf(told.size), say = ([steps, rate]) => `${digits(steps)} steps at learning rate ${digits(rate, 2)}`;
    const never = "never gets there";
    const one = Number.isFinite(plain[at][0]) ? `takes ${say(plain[at])}` : never;
    const two = Number.isFinite(moving[at][0]) ? `takes ${say(moving[at])}` : never;
    figure.querySelector(".told").textContent =
      `At B = ${shown.size} plain descent (solid) ${one}` + (told.m ? `; with momentum ${shown.momentum} (dashed) it ${two}.` : ".");
    figure.dataset.steps = JSON.stringify([plain, moving].map((points) => points.map(([s]) => (Number.isFinite(s) ? s : null))));
  }

  for (const figure of document.querySelectorAll("figure.bowl:not([data-steps])")) {
    for (const part of figure.querySelectorAll("[hidden]")) part.removeAttribute("hidden"); // an SVG has no .hidden
    figure.querySelector(".still").hidden = true;
    let asked = false;
    const again = () => {
      if (!asked) requestAnimationFrame(() => { asked = false; draw(figure); });
      asked = true;
    };
    figure.addEventListener("input", again);
    addEventListener("resize", again);
    draw(figure);
  }
})();
