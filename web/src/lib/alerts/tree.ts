/** Where the nodes of the tree of routes lie when it is drawn. */

import type { RouteNode } from '../api/alerting';

export interface Placed {
  node: RouteNode;
  /** Column and row, in whole places. */
  depth: number;
  row: number;
  parent: Placed | null;
}

/** Most nodes that are drawn; nobody reads a larger picture. */
export const MOST_DRAWN = 400;

/** Nodes with their places: children to the right of their parent, from its row down. */
export function placed(root: RouteNode, most = MOST_DRAWN): { nodes: Placed[]; rows: number; depth: number; left: number } {
  const nodes: Placed[] = [];
  let row = 0;
  let deepest = 0;
  let left = 0;
  const place = (node: RouteNode, depth: number, parent: Placed | null): void => {
    if (nodes.length >= most) {
      left += count(node);
      return;
    }
    const own: Placed = { node, depth, row, parent };
    nodes.push(own);
    deepest = Math.max(deepest, depth);
    node.routes.forEach((child, i) => {
      if (i > 0 && nodes.length < most) row++;
      place(child, depth + 1, own);
    });
  };
  place(root, 0, null);
  return { nodes, rows: row + 1, depth: deepest + 1, left };
}

const count = (node: RouteNode): number => node.routes.reduce((sum, child) => sum + count(child), 1);

/** The nodes on the way to those that labels end at. */
export function pathTo(nodes: readonly Placed[], ends: ReadonlySet<string>): Set<string> {
  const taken = new Set<string>();
  for (const one of nodes) {
    if (!ends.has(one.node.id)) continue;
    for (let at: Placed | null = one; at !== null; at = at.parent) taken.add(at.node.id);
  }
  return taken;
}
