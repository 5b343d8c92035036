{{- define "sam-refine.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "sam-refine.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "sam-refine.selector" . }}
{{- end }}

{{- define "sam-refine.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: server
{{- end }}

{{- define "sam-refine.envoySelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: envoy
{{- end }}

{{- define "sam-refine.envoyLabels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "sam-refine.envoySelector" . }}
{{- end }}

{{- define "sam-refine.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}{{ include "sam-refine.fullname" . }}
{{- else }}default{{ end }}
{{- end }}

{{- define "sam-refine.image" -}}
{{- $tag := .tag | default .default }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ $tag }}{{ end }}
{{- end }}

{{- /* A quantity such as 512Mi in MiB; values.schema.json lets no other unit through. */ -}}
{{- define "sam-refine.mebibytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- if hasSuffix "Gi" . }}{{ mul $number 1024 }}{{ else }}{{ $number }}{{ end }}
{{- end }}

{{- /* The memory limit: processes and /dev/shm. Refuses sizes that do not go together. */ -}}
{{- define "sam-refine.memoryLimit" -}}
{{- $memory := include "sam-refine.mebibytes" .Values.resources.memory | int64 }}
{{- $shared := include "sam-refine.mebibytes" .Values.sharedMemory.sizeLimit | int64 }}
{{- $largest := include "sam-refine.mebibytes" .Values.largestRequest | int64 }}
{{- if lt $shared 256 }}
{{- fail (printf "sharedMemory.sizeLimit must be at least 256Mi, got %s" .Values.sharedMemory.sizeLimit) }}
{{- end }}
{{- if lt $shared (mul 4 $largest) }}
{{- fail (printf "sharedMemory.sizeLimit must be at least 4 times largestRequest, %dMi, got %s; raise it, or lower largestRequest" (mul 4 $largest) .Values.sharedMemory.sizeLimit) }}
{{- end }}
{{- if lt $memory (mul 18 $largest) }}
{{- fail (printf "resources.memory must be at least 18 times largestRequest, %dMi, got %s; raise it, or lower largestRequest" (mul 18 $largest) .Values.resources.memory) }}
{{- end }}
{{- printf "%dMi" (add $memory $shared) }}
{{- end }}

{{- /* How long a pod may take to end. Refuses less than the server's own timeouts. */ -}}
{{- define "sam-refine.gracePeriod" -}}
{{- $least := add .Values.server.drainDelaySeconds .Values.server.exitTimeoutSeconds 15 }}
{{- $given := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $given }}{{ $least }}
{{- else if lt (int $given) (int $least) }}
{{- fail (printf "terminationGracePeriodSeconds must be at least %d (drainDelaySeconds, exitTimeoutSeconds and 15), got %d" $least (int $given)) }}
{{- else }}{{ int $given }}{{ end }}
{{- end }}

{{- define "sam-refine.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 .Values.security.runAsUser }}
runAsGroup: {{ int64 .Values.security.runAsUser }}
fsGroup: {{ int64 .Values.security.runAsUser }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sam-refine.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Time that requests wait over the time that they are computed, of this release's pods. */ -}}
{{- define "sam-refine.queueRatio" -}}
{{- $pods := printf "model=\"sam_refine\",namespace=\"%s\",service=\"%s-metrics\"" .Release.Namespace (include "sam-refine.fullname" .) -}}
sum(rate(nv_inference_queue_duration_us{ {{- $pods -}} }[2m])) / clamp_min(sum(rate(nv_inference_compute_infer_duration_us{ {{- $pods -}} }[2m])), 1)
{{- end }}

{{- define "sam-refine.scaling" -}}
scaleUp:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleUpWindowSeconds }}
  policies:
    - {type: Percent, value: 100, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownWindowSeconds }}
  policies:
    - {type: Pods, value: 1, periodSeconds: 120}
{{- end }}

{{- /* What the schema cannot see: values that go together, and those of the cluster. */ -}}
{{- define "sam-refine.check" -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas must be at most maxReplicas, %d, got %d" (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) }}
{{- end }}
{{- range .Values.server.extraArguments }}
{{- if regexMatch "^--(model-repository|grpc-port|http-port|metrics-port|exit-timeout-secs|allow-metrics|grpc-use-ssl|grpc-server-|grpc-root-|trace-config)" . }}
{{- fail (printf "server.extraArguments must leave out what other values of the chart say, got %s" .) }}
{{- end }}
{{- end }}
{{- end }}
