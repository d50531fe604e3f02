/** The ring of a cluster as arcs of a circle. */

import type { Member } from '../api/cluster';

export interface Arc {
  member: Member;
  /** Shares of the circle before and with it, 0 to 1, from the top and clockwise. */
  from: number;
  to: number;
  /** Number of its zone, for a colour. */
  zone: number;
}

/** The zones there are, by name; the one without a name last. */
export function zonesOf(members: readonly Member[]): string[] {
  const zones = [...new Set(members.map((member) => member.zone))];
  return zones.sort((a, b) => Number(a === '') - Number(b === '') || a.localeCompare(b));
}

/** One arc for each broker that is on the ring, neighbours of a zone together. */
export function arcsOf(members: readonly Member[]): Arc[] {
  const zones = zonesOf(members);
  const on = members.filter((member) => member.ringShare > 0);
  const whole = on.reduce((sum, member) => sum + member.ringShare, 0);
  const zone = (member: Member): number => zones.indexOf(member.zone);
  on.sort((a, b) => zone(a) - zone(b) || a.name.localeCompare(b.name));
  let reached = 0;
  return on.map((member) => {
    const from = reached;
    reached += member.ringShare / whole;
    return { member, from, to: reached, zone: zone(member) };
  });
}

/** A point of a circle around the origin, at a share of its way from the top. */
export const place = (share: number, radius: number): [number, number] => [
  radius * Math.sin(2 * Math.PI * share),
  -radius * Math.cos(2 * Math.PI * share),
];

const written = ([x, y]: [number, number]): string => `${x.toFixed(3)} ${y.toFixed(3)}`;

/** The outline of a piece of a ring between two radii, as an SVG path. */
export function outline(from: number, to: number, inner: number, outer: number): string {
  // Half circles each: an arc whose ends are the same is none.
  if (to - from > 0.5) {
    const middle = (from + to) / 2;
    return `${outline(from, middle, inner, outer)} ${outline(middle, to, inner, outer)}`;
  }
  const edge = (radius: number, share: number, sweep: 0 | 1): string => `A${radius} ${radius} 0 0 ${sweep} ${written(place(share, radius))}`;
  return `M${written(place(from, outer))} ${edge(outer, to, 1)} L${written(place(to, inner))} ${edge(inner, from, 0)} Z`;
}
