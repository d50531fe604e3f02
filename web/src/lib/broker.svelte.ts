/** Where hosts and jobs send to: this server, or the brokers behind a console in a process of its own. */

import { get } from './api/client';

/** A cluster behind a console, as `/api/v1/status/runtimeinfo` has it. */
export interface Cluster {
  /** Empty if it is the only one and has none. */
  name: string;
  answers: boolean;
  brokers: { address: string; answers: boolean; reason: string }[];
  storageRetention: string;
  /** Where its HTTP port is reached; empty if nobody knows yet. */
  brokerUrl: string;
  version: string;
}

/** Where something is done that a console cannot. */
export interface Place {
  /** Of the cluster; empty if there is only one. */
  name: string;
  url: string;
}

let origin = $state(location.origin);
let places = $state.raw<Place[] | null>(null);
let isAsked = false;

async function ask(): Promise<void> {
  try {
    const info = await get<{ brokerUrl?: string; clusters?: Cluster[] }>('/api/v1/status/runtimeinfo');
    const known = (info.clusters ?? []).filter(({ brokerUrl }) => brokerUrl !== '');
    const found = known.map(({ name, brokerUrl }): Place => ({ name, url: new URL(brokerUrl).origin }));
    if (found[0] !== undefined) origin = found[0].url;
    places = found;
  } catch {
    // Only an example is less right; the next page asks again.
    isAsked = false;
    places ??= [];
  }
}

function begin(): void {
  if (isAsked) return;
  isAsked = true;
  void ask();
}

export const broker = {
  /** Such as `https://monitor.example.com:9595`; this page's own until it is known, the first of several clusters. */
  get origin(): string {
    begin();
    return origin;
  },
  /** One for each cluster if this console is a process of its own, which stores nothing; else none, and null until it is known. */
  get elsewhere(): Place[] | null {
    begin();
    return places;
  },
  /** Whether this console is known to be a process of its own. */
  get isApart(): boolean {
    begin();
    return (places ?? []).length > 0;
  },
  /** Whether this is known to be the process of the broker itself. */
  get isHere(): boolean {
    begin();
    return places !== null && places.length === 0;
  },
};
