/* One image at a time: clean and attacked under a slider, in place of the list that is there without scripts. */
const MARKS = { fooled: "✗", held: "✓", "wrong before": "–" };

function viewer(gallery) {
  const pane = gallery.querySelector(".viewer");
  const find = (selector) => pane.querySelector(selector);
  const cases = [...gallery.querySelectorAll(".case")];
  const thumbs = find(".thumbs");
  const [clean, attacked] = pane.querySelectorAll(".compare .shot:not(canvas)");
  const [cleanLines, attackedLines] = pane.querySelectorAll(".compare .lines");
  const [cleanCanvas, attackedCanvas] = pane.querySelectorAll(".compare canvas");
  const choose = find(".attack");
  let chosen = null;
  let values = null; /* of the clean and the attacked image of a CT */

  const named = (item) => `Image ${item.dataset.index}${item.dataset.outcome ? `: ${item.dataset.outcome}` : ""}`;
  const options = cases.map((item, place) => {
    const option = document.createElement("li");
    option.setAttribute("role", "option");
    option.id = `${item.id}-thumb`;
    option.dataset.outcome = item.dataset.outcome;
    const picture = document.createElement("img");
    const source = item.querySelector(".clean .stack");
    picture.src = source.querySelector(".shot").src;
    picture.alt = "";
    picture.loading = "lazy";
    picture.decoding = "async";
    picture.style.cssText = source.style.cssText;
    const text = document.createElement("span");
    text.textContent = `${item.dataset.index} ${MARKS[item.dataset.outcome] ?? ""}`;
    option.setAttribute("aria-label", named(item));
    option.append(picture, text);
    option.addEventListener("click", () => show(place));
    return option;
  });
  const shown = () => [...thumbs.children].filter((option) => !option.hidden);

  function copied(into, nodes) {
    into.replaceChildren(...[...nodes].map((node) => node.cloneNode(true)));
  }
  function lay(image, lines, stack) {
    const shot = stack.querySelector(".shot");
    image.src = shot.src;
    image.alt = shot.alt;
    const over = stack.querySelector(".lines");
    if (lines) lines.hidden = !over;
    if (lines && over) lines.src = over.src;
  }
  function show(place) {
    chosen = cases[place];
    for (const option of options) option.setAttribute("aria-selected", option === options[place]);
    thumbs.setAttribute("aria-activedescendant", options[place].id);
    thumbs.scrollLeft = options[place].offsetLeft - (thumbs.clientWidth - options[place].offsetWidth) / 2;
    find("h4").textContent = named(chosen);
    const truth = chosen.querySelector(".truth");
    for (const node of pane.querySelectorAll(".of-truth")) node.hidden = !truth;
    find("dd.of-truth").textContent = truth?.textContent ?? "";
    copied(find(".before"), chosen.querySelector(".clean .said").childNodes);
    const stack = chosen.querySelector(".clean .stack");
    for (const other of pane.querySelectorAll(".stack")) other.style.cssText = stack.style.cssText;
    find(".stack").style.setProperty("--at", find(".wipe").value);
    lay(clean, cleanLines, stack);
    find(".of-lines").hidden = !chosen.querySelector(".lines");
    const slices = chosen.dataset.slices.split(",");
    find(".of-slices").hidden = slices.length < 2;
    find(".slice").max = slices.length - 1;
    find(".slice").value = Math.floor(slices.length / 2);
    const before = choose.selectedIndex;
    const made = [...chosen.querySelectorAll(".made")];
    choose.replaceChildren(...made.map((one) => new Option(one.querySelector(".name").textContent)));
    choose.selectedIndex = before >= 0 && before < made.length ? before : made.length - 1;
    apply();
  }
  async function apply() {
    const item = chosen;
    const made = item.querySelectorAll(".made")[choose.selectedIndex];
    if (!made) return;
    lay(attacked, attackedLines, made.querySelector(".stack"));
    lay(find(".change .shot"), null, made.querySelector(".change .stack"));
    copied(find(".change figcaption"), made.querySelector(".change figcaption").childNodes);
    copied(find(".after"), made.querySelector(".said").childNodes);
    slice();
    values = null;
    window_();
    if (!item.dataset.values || !made.dataset.values || typeof DecompressionStream === "undefined") return;
    const width = Number(item.dataset.size.split(",")[0]);
    const [base, step] = await Promise.all([item.dataset.values, made.dataset.values].map((text) => unpacked(text, width)));
    if (item !== chosen || made !== chosen.querySelectorAll(".made")[choose.selectedIndex]) return;
    values = [base, base.map((value, k) => value + step[k])];
    window_();
  }
  function window_() {
    find(".window").hidden = !values;
    for (const canvas of [cleanCanvas, attackedCanvas]) canvas.hidden = !values;
    for (const image of [clean, attacked]) image.hidden = Boolean(values);
    if (!values) return;
    const size = chosen.dataset.size.split(",").map(Number);
    const [level, span] = [Number(find(".level").value), Math.max(1, Number(find(".width").value))];
    const at = Number(find(".slice").value);
    drawn(cleanCanvas, values[0], size, at, level, span);
    drawn(attackedCanvas, values[1], size, at, level, span);
  }
  function preset() {
    const given = find(".preset").value;
    if (given) [find(".level").value, find(".width").value] = given.split(",");
    window_();
  }
  function slice() {
    for (const stack of pane.querySelectorAll(".stage .stack")) stack.style.setProperty("--slice", find(".slice").value);
    const place = chosen.dataset.slices.split(",")[find(".slice").value];
    find(".of-slices output").value = place;
    find(".slice").setAttribute("aria-valuetext", `slice ${place}`);
  }
  function wipe() {
    const at = find(".wipe").value;
    find(".stack").style.setProperty("--at", at);
    const said = { 0: "clean", 100: "attacked" }[at] ?? `${at} % attacked`;
    find(".wipe").setAttribute("aria-valuetext", said);
  }
  function list() {
    const outcome = find(".bar input:checked").value;
    const key = find(".order").value;
    const order = cases.map((_, place) => place).sort((a, b) => cases[a].dataset[key] - cases[b].dataset[key]);
    thumbs.replaceChildren(...order.map((place) => options[place]));
    for (const option of options) option.hidden = outcome !== "all" && option.dataset.outcome !== outcome;
    if (chosen === null || options[cases.indexOf(chosen)].hidden) {
      const first = shown()[0];
      if (first) show(options.indexOf(first));
    }
  }
  function worst() {
    const open = cases.filter((_, place) => !options[place].hidden);
    open.sort((a, b) => a.dataset.harm - b.dataset.harm);
    if (open.length) show(cases.indexOf(open[0]));
    thumbs.focus({ preventScroll: true });
  }

  for (const input of pane.querySelectorAll(".bar input, .order")) input.addEventListener("change", list);
  find(".to-worst").addEventListener("click", worst);
  thumbs.addEventListener("keydown", (event) => {
    const open = shown();
    const now = open.indexOf(options[cases.indexOf(chosen)]);
    const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: open.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (open[to]) show(options.indexOf(open[to]));
  });
  choose.addEventListener("change", apply);
  find(".wipe").addEventListener("input", wipe);
  find(".slice").addEventListener("input", () => { slice(); window_(); });
  find(".show-lines").addEventListener("change", (event) => pane.classList.toggle("without-lines", !event.target.checked));
  find(".preset").addEventListener("change", preset);
  for (const input of [find(".level"), find(".width")]) {
    input.addEventListener("input", () => { find(".preset").value = ""; window_(); });
  }
  const drag = (event) => {
    if (!event.buttons) return;
    const box = find(".stack").getBoundingClientRect();
    find(".wipe").value = (100 * (event.clientX - box.left)) / box.width;
    wipe();
  };
  find(".stack").addEventListener("pointerdown", drag);
  find(".stack").addEventListener("pointermove", drag);
  if (gallery.previousElementSibling?.matches(".jump")) gallery.previousElementSibling.remove();
  addEventListener("beforeprint", () => { if (chosen) chosen.open = true; });
  pane.hidden = false;
  [find(".level").value, find(".width").value] = find(".preset").value.split(",");
  list();
  wipe();
}
document.querySelectorAll(".gallery").forEach(viewer);
