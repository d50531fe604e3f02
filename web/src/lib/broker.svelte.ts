/** Where hosts and jobs send to: this server, or the broker behind a console in a process of its own. */

import { get } from './api/client';

let origin = $state(location.origin);
let isAsked = false;

async function ask(): Promise<void> {
  try {
    const info = await get<{ brokerUrl?: string }>('/api/v1/status/runtimeinfo');
    if (info.brokerUrl) origin = new URL(info.brokerUrl).origin;
  } catch {
    // Only an example is less right; the next page asks again.
    isAsked = false;
  }
}

export const broker = {
  /** Such as `https://monitor.example.com:9595`; this page's own until it is known. */
  get origin(): string {
    if (!isAsked) {
      isAsked = true;
      void ask();
    }
    return origin;
  },
};
