// Texts side by side: as they are, with what differs between two of them marked, and scrolled together if wanted.

export function textElement(text) {
  const made = document.createElement("div");
  made.className = "text";
  made.tabIndex = 0; // so that keys can scroll it
  made.textContent = text;
  return made;
}

// Words and the space between them; joined they are the text again.
const words = (text) => text.match(/\s+|[^\s]+/g) ?? [];

// How many words two texts begin with together, and end with.
function shared(a, b) {
  const least = Math.min(a.length, b.length);
  let [head, tail] = [0, 0];
  while (head < least && a[head] === b[head]) head++;
  while (tail < least - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  return [head, tail];
}

// Which words of each are in both, by the longest common subsequence of what lies between their ends.
export function common(first, second) {
  const [whole, other] = [words(first), words(second)];
  const [head, tail] = shared(whole, other);
  const [a, b] = [whole.slice(head, whole.length - tail), other.slice(head, other.length - tail)];
  const length = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  const found = [a.map((word) => [word, false]), b.map((word) => [word, false])];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) (found[0][i++][1] = true), (found[1][j++][1] = true);
    else length[i + 1][j] >= length[i][j + 1] ? i++ : j++;
  }
  const ends = [whole.slice(0, head), tail ? whole.slice(-tail) : []].map((part) => part.map((word) => [word, true]));
  return found.map((part) => [...ends[0], ...part, ...ends[1]]);
}

const MOST = 4e6; // pairs of words that are compared: a tenth of a second or two

// Marks what only one of the two has, or takes the marks away again. Returns a sentence where there is something to say.
export function difference(elements, texts) {
  if (elements.some((one) => one.querySelector("mark"))) {
    elements.forEach((one, i) => (one.textContent = texts[i]));
    return "";
  }
  const [head, tail] = shared(...texts.map(words));
  const between = texts.map((text) => words(text).slice(head, words(text).length - tail).length);
  if (between[0] * between[1] > MOST) return "These texts are too long for what differs to be marked.";
  common(...texts).forEach((parts, i) =>
    elements[i].replaceChildren(
      ...parts.map(([word, both]) => (both || !word.trim() ? word : Object.assign(document.createElement("mark"), { textContent: word }))),
    ),
  );
  return "";
}

// Scrolled together, each in proportion to its own length, or each by itself.
export function link(elements, together) {
  let leads = null;
  for (const one of elements)
    one.onscroll = !together ? null : () => {
      if (leads && leads !== one) return;
      leads = one;
      const share = one.scrollTop / Math.max(1, one.scrollHeight - one.clientHeight);
      for (const other of elements) if (other !== one) other.scrollTop = share * (other.scrollHeight - other.clientHeight);
      requestAnimationFrame(() => (leads = null));
    };
}
