// One function for each kind of question: what stands below the clips, what keys do there, and which answer comes of it.
// page: {query, player, ties, stage, button(name, action, pressed), answer(value, told), say(sentence)}; value: what was
// said before, when an answer is changed. Each returns {elements, acts}, and if need be released, clock, and draft(), what
// was said so far.

export const SIDES = ["Left", "Right"];
export const ORDINAL = ["First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth"];
const PLACES = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Radio buttons under a name, one of which may be chosen already.
function options(legend, name, choices, chosen) {
  const labels = choices.map(([text, value]) => {
    const input = element("input", { type: "radio", name, value: JSON.stringify(value) });
    input.checked = chosen !== undefined && JSON.stringify(chosen) === JSON.stringify(value);
    return element("label", {}, input, text);
  });
  return element("fieldset", {}, element("legend", { textContent: legend }), ...labels);
}

function chosen(name) {
  const found = document.querySelector(`input[name="${CSS.escape(name)}"]:checked`);
  return found ? JSON.parse(found.value) : undefined;
}

const picks = (query, act) => Object.fromEntries(query.clips.map((_, i) => [PLACES[i], () => act(i)]));

function compare(page, value) {
  const first = value?.compare;
  return {
    elements: [
      page.button("Left better", "first", first > 0.5),
      ...(page.ties ? [page.button("About equal", "tie", first === 0.5)] : []),
      page.button("Right better", "second", first < 0.5),
    ],
    acts: {
      first: () => page.answer({ compare: 1 }),
      second: () => page.answer({ compare: 0 }),
      ...(page.ties ? { tie: () => page.answer({ compare: 0.5 }) } : {}),
    },
  };
}

function grade(page, value) {
  const level = value?.grade;
  const much = (name, action, sign) => page.button(name, action, level === 2 * sign, true);
  return {
    elements: [
      much("Left much better", "first", 1),
      page.button("Left better", "first", level === 1),
      ...(page.ties ? [page.button("About equal", "tie", level === 0)] : []),
      page.button("Right better", "second", level === -1),
      much("Right much better", "second", -1),
    ],
    acts: {
      first: (event) => page.answer({ grade: event?.shiftKey ? 2 : 1 }),
      second: (event) => page.answer({ grade: event?.shiftKey ? -2 : -1 }),
      ...(page.ties ? { tie: () => page.answer({ grade: 0 }) } : {}),
    },
  };
}

function choose(page, value) {
  return {
    elements: page.query.clips.map((_, i) => page.button(`${ORDINAL[i]} is best`, PLACES[i], value?.choose === i)),
    acts: picks(page.query, (i) => page.answer({ choose: i })),
  };
}

function rank(page, value) {
  let order = value?.rank ?? [];
  const said = element("p", { id: "picked", className: "quiet" });
  const all = [...page.query.clips.keys()];
  function draw() {
    const names = order.map((i) => ORDINAL[i].toLowerCase());
    said.textContent = names.length ? `Best to worst: ${names.join(", ")}` : "Pick the best one first, then the next.";
    for (const figure of page.stage.children) {
      const place = order.indexOf(Number(figure.dataset.place));
      figure.querySelector("figcaption").textContent = ORDINAL[figure.dataset.place] + (place < 0 ? "" : `: ${place + 1}`);
    }
  }
  function confirm() {
    const left = all.filter((i) => !order.includes(i));
    if (left.length > 1) return page.say(`Pick ${left.length - 1} more.`);
    page.answer({ rank: [...order, ...left] });
  }
  function pick(i) {
    order = order.includes(i) ? order.filter((other) => other !== i) : [...order, i];
    draw();
  }
  draw();
  const buttons = all.map((i) => page.button(ORDINAL[i], PLACES[i], false));
  return { elements: [said, ...buttons, page.button("Confirm", "confirm", false)], acts: { confirm, ...picks(page.query, pick) }, draft: () => ({ rank: order }) };
}

function rate(page, value) {
  const names = page.query.clips.length === 2 ? SIDES : page.query.clips.length === 1 ? ["This one"] : ORDINAL;
  const scale = [1, 2, 3, 4, 5, 6, 7].map((n) => [String(n), n]);
  const fields = page.query.clips.map((_, i) => options(names[i], `rate${i}`, scale, value?.rate?.[i]));
  function confirm() {
    const values = fields.map((_, i) => chosen(`rate${i}`));
    if (values.includes(undefined)) return page.say("Every clip needs a number.");
    page.answer({ rate: values });
  }
  // A number is for the clip whose scale has the focus, or else for the first that has none.
  const number = (n) => {
    const field = fields.find((one) => one.contains(document.activeElement)) ?? fields.find((one) => !one.querySelector(":checked")) ?? fields[0];
    field.querySelectorAll("input")[n].checked = true;
  };
  const said = element("p", { id: "picked", className: "quiet", textContent: "1 is bad, 7 is very good." });
  return {
    elements: [said, ...fields, page.button("Confirm", "confirm", false)],
    acts: { confirm, ...Object.fromEntries(PLACES.slice(0, 7).map((name, n) => [name, () => number(n)])) },
    draft: () => ({ rate: fields.map((_, i) => chosen(`rate${i}`)) }),
  };
}

// A step of the segment for a frame of its clip: they may be of different numbers.
function stepOf(page, frame) {
  const [{ steps, frames }] = page.query.clips;
  return Math.max(0, Math.min(steps, Math.round((frame * steps) / frames)));
}

function mark(page, value) {
  const { steps } = page.query.clips[0];
  let spans = value?.mark ?? []; // [start, stop, good], in steps
  const range = { from: null, to: null };
  const held = {};
  const track = element("div", { className: "track" });
  const head = element("span", { className: "head" });
  const list = element("p", { className: "quiet spans" });
  function draw() {
    const bar = ([start, stop, good]) => {
      const made = element("span", { className: good ? "good" : "bad", textContent: good ? "+" : "−" });
      Object.assign(made.style, { left: `${(100 * start) / steps}%`, width: `${(100 * (stop - start)) / steps}%` });
      return made;
    };
    track.replaceChildren(...spans.map(bar), head);
    const remove = ([start, stop, good], i) => {
      const name = `${good ? "good" : "bad"}, steps ${start + 1} to ${stop}`;
      const made = element("button", { className: "plain", textContent: `${name} ✕` });
      made.setAttribute("aria-label", `Remove: ${name}`);
      made.addEventListener("click", () => ((spans = spans.filter((_, j) => j !== i)), draw()));
      return made;
    };
    list.replaceChildren(...(spans.length ? spans.map(remove) : ["Hold Good or Bad while it plays, or set start and end first."]));
  }
  function add(start, stop, good) {
    spans = [...spans, [Math.min(start, steps - 1), Math.min(steps, Math.max(stop, start + 1)), good]];
    draw();
  }
  function press(good) {
    if (range.from !== null && range.to !== null) {
      add(Math.min(range.from, range.to), Math.max(range.from, range.to), good);
      range.from = range.to = null;
    } else held[good] = stepOf(page, page.player.frame);
  }
  function release(good) {
    if (held[good] === undefined) return;
    const [start, now] = [held[good], stepOf(page, page.player.frame + 1)];
    delete held[good];
    add(Math.min(start, now), Math.max(start, now), good);
  }
  function edge(which) {
    range[which] = stepOf(page, page.player.frame + (which === "to" ? 1 : 0));
    const set = range.from !== null && range.to !== null;
    page.say(set ? "Now say whether it is good or bad." : which === "from" ? "It starts here; now set its end." : "It ends here; now set its start.");
  }
  draw();
  const holds = [["Good while held", "good"], ["Bad while held", "bad"]].map(([name, action]) => page.button(name, action, false, false, true));
  return {
    elements: [
      track, list, ...holds, page.button("Start", "from", false), page.button("End", "to", false), page.button("Confirm", "confirm", false),
    ],
    acts: {
      good: () => press(true),
      bad: () => press(false),
      from: () => edge("from"),
      to: () => edge("to"),
      remove: () => ((spans = spans.slice(0, -1)), draw()),
      confirm: () => {
        for (const good of [true, false]) release(good); // what is still held counts
        page.answer({ mark: [...spans].sort((a, b) => a[0] - b[0]) });
      },
    },
    draft: () => ({ mark: spans }),
    clock: (frame) => (head.style.left = `${(100 * frame) / page.query.clips[0].frames}%`),
    released: { good: () => release(true), bad: () => release(false) },
  };
}

function stop(page, value) {
  const { steps } = page.query.clips[0];
  return {
    elements: [
      page.button("Stop it here", "confirm", value?.stop < steps),
      page.button("Fine to the end", "first", value?.stop === steps),
    ],
    acts: {
      confirm: () => page.answer({ stop: Math.max(1, stepOf(page, page.player.frame + 1)) }, { frame: page.player.frame }),
      first: () => page.answer({ stop: steps }),
    },
  };
}

function survey(page, value) {
  const before = value?.survey;
  const yes = [["Yes", true], ["No", false], ["Does not apply", null]];
  const which = [["Left", 1], ["Neither", 0.5], ["Right", 0]];
  const fields = page.query.survey.flatMap(({ name, question, of }) => {
    const said = before?.items[name];
    if (of === "both") return [options(question, `item-${name}`, [...which, ["Does not apply", null]], said)];
    return SIDES.map((side, i) => options(`${side}: ${question}`, `item-${name}-${i}`, yes, said?.[i]));
  });
  const overall = options("Over all, which is better?", "overall", page.ties ? which : which.filter(([, v]) => v !== 0.5), before?.first);
  const why = element("textarea", { id: "why", rows: 3, maxLength: 10000, value: before?.why ?? "" });
  function draft() {
    const each = page.query.survey.map(({ name, of }) => [name, of === "both" ? chosen(`item-${name}`) : SIDES.map((_, i) => chosen(`item-${name}-${i}`))]);
    return { survey: { first: chosen("overall"), items: Object.fromEntries(each), why: why.value } };
  }
  function confirm() {
    const { first, items } = draft().survey;
    if (Object.values(items).some((said) => said === undefined || (Array.isArray(said) && said.includes(undefined))))
      return page.say("There is a question without an answer.");
    if (first === undefined) return page.say("Say which is better over all.");
    page.answer({ survey: { first, items, why: why.value.trim() } });
  }
  const reason = element("label", { className: "why" }, "Why?", why);
  return { elements: [element("div", { className: "survey" }, ...fields, overall, reason), page.button("Confirm", "confirm", false)], acts: { confirm }, draft };
}

function write(page, value) {
  const words = element("textarea", { id: "written", rows: 4, maxLength: 10000, value: value?.write ?? "" });
  words.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey) confirm();
    if (event.key === "Escape") words.blur();
  });
  function confirm() {
    if (!words.value.trim()) return page.say("Write something, or say that you can't tell.");
    page.answer({ write: words.value.trim() });
  }
  const label = element("label", { className: "why" }, "What would you say about it?", words);
  return { elements: [label, page.button("Confirm", "confirm", false)], acts: { confirm }, draft: () => ({ write: words.value }) };
}

export const KINDS = { compare, grade, rank, choose, rate, mark, stop, survey, write };
