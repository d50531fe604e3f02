/** What is wrong with a group of rules and what to do about it, as the page says it: in its language, and for that of the rule. */

import type { RuleFault, RuleLanguage } from '../../lib/api/alerting';
import { i18n, t } from '../../lib/i18n/index.svelte';
import { ADVICE_ZH } from '../../lib/alerts/advice-zh';
import { translated } from '../../lib/alerts/translated';

const EXAMPLES: Record<RuleLanguage, string> = { promql: 'expr: up == 0', logql: 'expr: sum(rate({job="web"} |= "error" [5m])) > 1' };
const COUNTED = 'sum(rate({job="web"} |= "error" [5m])) > 1';

/** Without what its place tells already: which rule of which group it is, and where in its expression. */
export const messageOf = ({ message }: Pick<RuleFault, 'message'>): string =>
  message.replace(/\d+:\d+: (?=parse error)/, '').replace(/^group "(?:[^"\\]|\\.)*", rule \d+, "(?:[^"\\]|\\.)*": /, '');

/** Null where there is none. */
export function adviceOf({ message, help }: Pick<RuleFault, 'message' | 'help'>, language: RuleLanguage): string | null {
  if (/^not a valid duration string: "\s*[-−]/.test(message)) return t('rules.advice.negative');
  if (help === null) return null;
  // What a query may be is not what a rule may be, and each language has its own page to try it in.
  if (help.startsWith('try the expression as a query')) {
    if (message.includes('only sample expression supported')) return t('rules.advice.needsNumber', { example: COUNTED });
    return t(language === 'logql' ? 'rules.advice.tryLogql' : 'rules.advice.tryPromql');
  }
  if (help.startsWith('add the expression to evaluate')) return t('rules.advice.expr', { example: EXAMPLES[language] });
  return i18n.language === 'zh' ? translated(ADVICE_ZH, help) : help;
}
