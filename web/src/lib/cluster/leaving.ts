/** Who of a cluster may leave, and what stands in the way. */

import type { Cluster, Member } from '../api/cluster';

/** One that is silent for less may be starting again: the server refuses to take it out. */
export const LOST_AFTER_MS = 60_000;
/** Fewer brokers cannot lose one. */
const ENOUGH = 3;

/** What can be asked of a broker: that it leaves, or, where nobody can ask it any more, that the others take it out. */
export function wayOut({ hasLeft, liveness, isDraining }: Member): 'drain' | 'remove' | null {
  if (hasLeft || liveness === 'silent') return 'remove';
  return isDraining ? null : 'drain';
}

const stays = (member: Member): boolean => !member.hasLeft && !member.isDraining && member.liveness !== 'silent';

/** Why it cannot be asked now, the name of a text; null if it can. */
export function obstacle(member: Member, { members, consensus }: Pick<Cluster, 'members' | 'consensus'>): 'noLeader' | 'last' | 'voters' | 'recent' | 'segments' | null {
  if (consensus?.leader == null) return 'noLeader';
  if (wayOut(member) === 'drain') {
    if (!members.some((other) => other.id !== member.id && stays(other))) return 'last';
    const { alive, voters } = votersWithout(member, members);
    return member.part === 'voter' && voters > 0 && 2 * alive <= voters ? 'voters' : null;
  }
  if (member.hasLeft) return null;
  if (member.silentMs < LOST_AFTER_MS) return 'recent';
  return member.segments.count > 0 ? 'segments' : null;
}

/** The votes of the others. */
export function votersWithout(member: Member, members: readonly Member[]): { alive: number; voters: number } {
  const others = members.filter((other) => other.id !== member.id && other.part === 'voter');
  return { alive: others.filter(({ liveness }) => liveness === 'alive').length, voters: others.length };
}

/** Brokers that work when it has left, if those are so few that none of them may be lost; else null. */
export function tooFew(member: Member, members: readonly Member[]): number | null {
  const left = members.filter((other) => other.id !== member.id && stays(other)).length;
  return left < ENOUGH ? left : null;
}
