// What the keys do, by physical key so that every layout works; each can be set anew, and all can be switched off.

const KEY = "rapport-keys";

export const ACTIONS = {
  first: ["Digit1", "Left (first) is better"],
  second: ["Digit2", "Right (second) is better"],
  tie: ["Digit0", "About equal"],
  skip: ["KeyX", "Can't tell"],
  third: ["Digit3", "Pick the third"],
  fourth: ["Digit4", "Pick the fourth"],
  fifth: ["Digit5", "Pick the fifth"],
  sixth: ["Digit6", "Pick the sixth"],
  seventh: ["Digit7", "Pick the seventh"],
  eighth: ["Digit8", "Pick the eighth"],
  play: ["Space", "Play or pause"],
  back: ["Comma", "One frame back"],
  on: ["Period", "One frame on"],
  rewind: ["KeyJ", "Half a second back"],
  forward: ["KeyL", "Half a second on"],
  again: ["KeyR", "Play again from the start"],
  slower: ["BracketLeft", "Slower"],
  faster: ["BracketRight", "Faster"],
  usual: ["Backslash", "Usual speed"],
  good: ["KeyG", "Good, while held"],
  bad: ["KeyB", "Bad, while held"],
  from: ["KeyI", "Start of a stretch"],
  to: ["KeyO", "End of a stretch"],
  remove: ["Delete", "Remove the last mark"],
  differ: ["KeyD", "Show what differs between two texts"],
  undo: ["KeyZ", "Undo the last answer"],
  note: ["KeyN", "Write a note"],
  rest: ["KeyP", "Take a break"],
  confirm: ["Enter", "Confirm"],
};

const stored = () => JSON.parse(localStorage.getItem(KEY) || "{}");

export function keymap() {
  const { keys = {} } = stored();
  return Object.fromEntries(Object.entries(ACTIONS).map(([action, [code]]) => [action, keys[action] ?? code]));
}

export const switchedOn = () => stored().on !== false;

export function set(change) {
  localStorage.setItem(KEY, JSON.stringify({ ...stored(), ...change }));
}

export const label = (code) => code.replace(/^(Digit|Key)/, "").replace("Comma", ",").replace("Period", ".")
  .replace("Delete", "Del").replace("BracketLeft", "[").replace("BracketRight", "]").replace("Backslash", "\\");

// Calls act(action, event) for a key that means something, unless somebody is writing or a slider has the focus, and
// released(action) when it is let go.
export function listen(act, released) {
  const actionOf = (code) => Object.entries(keymap()).find(([, at]) => at === code)?.[0];
  addEventListener("keyup", (event) => released(actionOf(event.code)));
  addEventListener("keydown", (event) => {
    // Held down on a button, Enter would press it again and again.
    if (event.repeat && event.code === "Enter" && event.target.closest("button")) return event.preventDefault();
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !switchedOn()) return;
    if (event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select, dialog[open]")) return;
    if (event.key === "?") return act("help", event);
    if ((event.code === "Space" || event.code === "Enter") && event.target.closest("button, summary")) return;
    if ((event.code === "Space" || event.code.startsWith("Arrow")) && event.target.closest("input")) return;
    const code = event.code === "Backspace" ? keymap().undo : event.code;
    const action = actionOf(code);
    if (action && act(action, event)) event.preventDefault();
  });
}

// The dialog in which keys are shown and set.
export function dialog(element, changed) {
  const list = element.querySelector("#keymap");
  const on = element.querySelector("#keys-on");
  const draw = () => {
    on.checked = switchedOn();
    list.replaceChildren(
      ...Object.entries(keymap()).flatMap(([action, code]) => {
        const [term, what] = [document.createElement("dt"), document.createElement("dd")];
        const button = Object.assign(document.createElement("button"), { className: "plain", textContent: label(code) });
        button.setAttribute("aria-label", `Key for: ${ACTIONS[action][1]}, now ${label(code)}`);
        button.addEventListener("click", () => {
          button.textContent = "…";
          button.addEventListener("keydown", (event) => {
            event.preventDefault();
            event.stopPropagation();
            if (event.key !== "Escape" && event.key !== "Tab") {
              const taken = Object.entries(keymap()).find(([other, at]) => at === event.code && other !== action);
              if (taken) return void (button.textContent = `${label(event.code)}: ${ACTIONS[taken[0]][1]}`);
              set({ keys: { ...stored().keys, [action]: event.code } });
            }
            draw();
            changed();
          }, { once: true });
        });
        term.append(button);
        what.textContent = ACTIONS[action][1];
        return [term, what];
      }),
    );
  };
  on.addEventListener("change", () => set({ on: on.checked }));
  element.querySelector("#keys-default").addEventListener("click", () => (set({ keys: {} }), draw(), changed()));
  element.querySelector("#keys-close").addEventListener("click", () => element.close());
  return () => (draw(), element.showModal());
}
