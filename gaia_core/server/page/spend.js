/** What was spent so far, and what the budgets leave. */

import { call } from "./api.js";
import { campaign } from "./campaign.js";
import { debounced, h, money, on } from "./dom.js";

const NEAR = 0.8;
const PERIODS = { forever: "in all" };

/** Mounts this part of the page; main.js calls it once. */
export function mount(aside) {
  const show = debounced(150, () => refresh(aside));
  for (const event of ["gaia:made", "gaia:paid", "gaia:campaign"]) on(event, show);
  refresh(aside);
}

let turn = 0;

async function refresh(aside) {
  const own = ++turn;
  const query = campaign() ? `?${new URLSearchParams({ campaign_id: campaign() })}` : "";
  try {
    const usage = await call(`api/usage${query}`);
    if (own === turn) aside.replaceChildren(spentLine(usage), ...usage.budgets.map(budgetBar));
  } catch {
    // What else is asked on this page says what is wrong; this line can wait.
    if (own === turn) aside.replaceChildren();
  }
}

function spentLine(usage) {
  const where = campaign() ? `for ${campaign()}` : "by you";
  return h(
    "p",
    { class: "spent" },
    "Spent ",
    where,
    ": ",
    h("b", {}, Number(usage.cost_usd) === 0 ? "nothing" : money(usage.cost_usd)),
    usage.held_usd > 0 && ` and ${money(usage.held_usd)} held`,
    `, ${usage.images} ${usage.images === 1 ? "picture" : "pictures"}`,
  );
}

function budgetBar(budget) {
  const used = budget.spent_usd + budget.held_usd;
  const share = budget.limit_usd > 0 ? used / budget.limit_usd : 1;
  const isNear = share >= NEAR;
  const whose = { total: "everybody", user: "you", campaign: "this campaign" }[budget.scope] ?? budget.scope;
  const text = `${dollars(used)} of ${dollars(budget.limit_usd)} for ${whose}, ${PERIODS[budget.period] ?? budget.period}`;
  return h(
    "div",
    { class: isNear ? "budget near" : "budget" },
    h("meter", { min: 0, max: 1, high: NEAR, value: Math.min(1, share), "aria-label": text }),
    h("span", {}, text),
    isNear && h("b", {}, share >= 1 ? "used up" : `${dollars(budget.left_usd)} left`),
  );
}

// Also of nothing: "free" would read oddly in a budget.
function dollars(amount) {
  return Number(amount) === 0 ? "$0" : money(amount);
}
