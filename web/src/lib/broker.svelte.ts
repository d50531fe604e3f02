/** Where hosts and jobs send to: this server, or the broker behind a console in a process of its own. */

import { get } from './api/client';

let origin = $state(location.origin);
let elsewhere = $state<string | null>(null);
let isAsked = false;

async function ask(): Promise<void> {
  try {
    const info = await get<{ brokerUrl?: string }>('/api/v1/status/runtimeinfo');
    if (info.brokerUrl) origin = new URL(info.brokerUrl).origin;
    elsewhere = info.brokerUrl ? origin : '';
  } catch {
    // Only an example is less right; the next page asks again.
    isAsked = false;
    elsewhere ??= '';
  }
}

function begin(): void {
  if (isAsked) return;
  isAsked = true;
  void ask();
}

export const broker = {
  /** Such as `https://monitor.example.com:9595`; this page's own until it is known. */
  get origin(): string {
    begin();
    return origin;
  },
  /** The same if this console is a process of its own, which stores nothing; else empty, and null until it is known. */
  get elsewhere(): string | null {
    begin();
    return elsewhere;
  },
};
