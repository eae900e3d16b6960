// Calls to the gateway: JSON in and out, and an error whose message is a sentence for people.

const KEY = "rapport.robot.token";

// The address that starting the robot told ends with #token=...: it is taken out of it at once, and kept by this tab.
export function token() {
  const told = new URLSearchParams(location.hash.slice(1)).get("token");
  if (told) {
    sessionStorage.setItem(KEY, told);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY) ?? "";
}

export function keep(value) {
  sessionStorage.setItem(KEY, value);
}

export async function call(method, path, body, lease) {
  const headers = { Authorization: `Bearer ${token()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (lease) headers["X-Lease"] = lease;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The gateway does not answer. If the arm moves, use the hardware e-stop.");
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(typeof told.detail === "string" ? told.detail : `The gateway said ${response.status}.`);
    error.status = response.status;
    throw error;
  }
  return told;
}

const ANSWER_MS = 500;
const waiting = new Map();
let stream = null;
let number = 0;

// A stop, by the stream, which is open already; where that does not answer, by a request of its own too.
export async function halt(what, why) {
  if ((await told(what, why)) === undefined) await call("POST", `v1/${what}`, what === "stop" ? { why } : undefined);
}

// True once it is done, undefined without an answer. Throws what refused it.
function told(what, why) {
  if (stream?.readyState !== WebSocket.OPEN) return undefined;
  const mine = ++number;
  stream.send(JSON.stringify({ ask: what, number: mine, why: why ?? "" }));
  return new Promise((resolve, reject) => {
    waiting.set(mine, (refused) => (refused ? reject(new Error(refused)) : resolve(true)));
    setTimeout(() => waiting.delete(mine) && resolve(undefined), ANSWER_MS);
  });
}

function heard(message, shown) {
  if (!("to" in message)) return shown(message);
  const answer = waiting.get(message.to);
  waiting.delete(message.to);
  answer?.(message.refused);
}

// States as they come; opened again when it is lost. `lost` is told a sentence.
export function watch(shown, lost) {
  const address = new URL("v1/stream", location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = (stream = new WebSocket(address, ["rapport.json", `bearer.${token()}`]));
  socket.onmessage = (event) => heard(JSON.parse(event.data), shown);
  socket.onclose = () => {
    lost("There is no connection to the gateway. If the arm moves, use the hardware e-stop.");
    setTimeout(() => watch(shown, lost), 1000);
  };
}
