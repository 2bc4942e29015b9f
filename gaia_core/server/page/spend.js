/** What was spent so far, and what the budgets leave. */

import { call } from "./api.js";
import { campaign } from "./campaign.js";
import { debounced, h, money, on, toast } from "./dom.js";

const NEAR = 0.8;
const PERIODS = { forever: "in all" };

/** Mounts this part of the page; main.js calls it once. */
export function mount(aside) {
  const show = debounced(150, () => refresh(aside));
  for (const event of ["gaia:made", "gaia:paid", "gaia:campaign"]) on(event, show);
  refresh(aside);
}

let turn = 0;
// Which budgets were near their limit when it was looked last; null: not yet.
let known = null;

async function refresh(aside) {
  const own = ++turn;
  const query = campaign() ? `?${new URLSearchParams({ campaign_id: campaign() })}` : "";
  try {
    const usage = await call(`api/usage${query}`);
    if (own !== turn) return;
    aside.replaceChildren(spentLine(usage), ...usage.budgets.map(budgetBar));
    warn(usage.budgets);
  } catch {
    // What else is asked on this page says what is wrong; this line stays as it was.
  }
}

// Said once, when it comes near: the bar at the top may be out of sight.
function warn(budgets) {
  const near = new Map();
  for (const one of budgets) if (stateOf(one) !== "fine") near.set(`${one.scope} ${campaign()} ${stateOf(one)}`, one);
  for (const [name, one] of near) {
    if (known && !known.has(name)) toast(`The budget of ${whoseOf(one)} is ${stateOf(one) === "out" ? "used up" : `nearly used up: ${dollars(one.left_usd)} left`}.`);
  }
  known = new Set([...(known ?? []), ...near.keys()]);
}

function shareOf({ spent_usd: spent, held_usd: held, limit_usd: limit }) {
  // 0.04 / 0.05 is a little less than 0.8 in binary.
  return limit > 0 ? Number(((spent + held) / limit).toFixed(9)) : 1;
}

function stateOf(budget) {
  const share = shareOf(budget);
  return share >= 1 ? "out" : share >= NEAR ? "near" : "fine";
}

function whoseOf({ scope }) {
  return { total: "everybody", user: "you", campaign: "this campaign" }[scope] ?? scope;
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
    usage.held_usd > 0 && ` and ${money(usage.held_usd)} set aside`,
    `, ${usage.images} ${usage.images === 1 ? "picture" : "pictures"}`,
  );
}

function budgetBar(budget) {
  const used = budget.spent_usd + budget.held_usd;
  const state = stateOf(budget);
  const text = `${dollars(used)} of ${dollars(budget.limit_usd)} for ${whoseOf(budget)}, ${PERIODS[budget.period] ?? budget.period}`;
  return h(
    "div",
    { class: `budget ${state}` },
    h("meter", { min: 0, max: 1, high: NEAR, value: Math.min(1, shareOf(budget)), "aria-label": text }),
    h("span", {}, text),
    state !== "fine" && h("b", {}, state === "out" ? "used up" : `${dollars(budget.left_usd)} left`),
  );
}

// Also of nothing: "free" would read oddly in a budget.
function dollars(amount) {
  return Number(amount) === 0 ? "$0" : money(amount);
}
