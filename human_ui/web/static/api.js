// Calls to the server: JSON in and out, and an error whose message is a sentence for people.

export const base = document.querySelector('meta[name="base"]').content;

export class Refused extends Error {
  constructor(status, sentence, wait) {
    super(sentence);
    this.status = status; // 0: no answer at all
    this.wait = wait; // seconds that the server asks for
  }

  // Sending the same again later may work.
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(base + path, {
      method,
      headers: { "X-Rapport": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      // Without a body a length is sent all the same.
      body: body === undefined ? (method === "GET" ? undefined : "") : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "There is no connection to the study. What you answer is kept here.", 2);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    const sentence = typeof told.detail === "string" ? told.detail : `The study said ${response.status}.`;
    throw new Refused(response.status, sentence, Number(response.headers.get("Retry-After")) || 5);
  }
  return response.status === 204 ? null : response.json();
}
