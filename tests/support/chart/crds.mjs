// Custom resources on stdin, a JSON list; on stdout what their definitions say against each, or null.
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
import { readFileSync } from "node:fs";

const kinds = { ScaledObject, PrometheusRule, ServiceMonitor };
const faults = JSON.parse(readFileSync(0, "utf8")).map((resource) => {
  try {
    new kinds[resource.kind](resource).validate();
    return null;
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(faults));
