-- Argo CD's health of a BackendHealth. Argo CD runs this without Lua's string, math and io libraries.

-- What a backend's outage is to Argo CD. "Healthy": the BackendHealth itself is in order, as kstatus sees it; an outage
-- fails no sync and blocks no wave. "Degraded": it shows, and a sync that meets it fails.
local outage = "Healthy"

local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not seen this version yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function holds(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

if holds("Stalled") then
  return health("Degraded", conditions.Stalled.message)
end

local suspended = #(status.probes or {}) > 0
for _, probe in ipairs(status.probes or {}) do
  suspended = suspended and probe.reason == "Suspended"
end
if suspended then
  return health("Suspended", "probing is suspended")
end

if holds("Reconciling") then
  return health("Progressing", conditions.Reconciling.message)
end
if not holds("Ready") or conditions.Healthy == nil then
  return health("Progressing", conditions.Ready and conditions.Ready.message or "not accepted yet")
end

local message = conditions.Healthy.reason .. ": " .. conditions.Healthy.message
if conditions.Healthy.status == "False" then
  return health(outage, message)
end
return health("Healthy", message)
