// Answers on their way: kept in this browser until the server has said that they are on its disk.
import { call } from "./api.js";

const KEY = "rapport-outbox";

export class Outbox {
  // told(state word); refused(sentence) for an answer that the server will never take.
  constructor(told, refused) {
    this.told = told;
    this.refused = refused;
    this.waiting = JSON.parse(localStorage.getItem(KEY) || "[]");
    this.busy = false;
    addEventListener("online", () => this.send());
    this.send();
  }

  put(answer) {
    this.waiting.push(answer);
    this.#keep();
    this.send();
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) {
      this.told(`Sending ${this.waiting.length}`);
      const { id, ...body } = this.waiting[0];
      try {
        await call("PUT", `/api/answers/${id}`, body);
      } catch (error) {
        if (error.passing || error.status === 401) {
          this.told(error.status === 0 ? `Offline, ${this.waiting.length} kept here` : `${this.waiting.length} kept here: ${error.message}`);
          setTimeout(() => this.send(), 1000 * error.wait);
          break;
        }
        this.refused(error.message);
      }
      this.waiting = this.waiting.filter((answer) => answer.id !== id);
      this.#keep();
    }
    if (!this.waiting.length) this.told("Saved");
    this.busy = false;
  }

  #keep() {
    // Another tab of the same person may have sent or added some: only this tab's own are its business.
    const others = JSON.parse(localStorage.getItem(KEY) || "[]").filter((a) => !this.mine?.has(a.id));
    this.mine = new Set([...(this.mine ?? []), ...this.waiting.map((a) => a.id)]);
    const own = new Set(this.waiting.map((a) => a.id));
    localStorage.setItem(KEY, JSON.stringify([...others.filter((a) => !own.has(a.id)), ...this.waiting]));
  }
}

export const newId = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
