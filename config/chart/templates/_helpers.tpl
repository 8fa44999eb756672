{{- /* The name of the chart's objects. */}}
{{- define "sluicegate.name" -}}
{{- if .Values.nameOverride }}{{ .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The labels by which pods are selected. They never change, as selectors cannot. */}}
{{- define "sluicegate.selector" -}}
app.kubernetes.io/name: sluicegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluicegate.labels" -}}
{{ include "sluicegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sluicegate.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "sluicegate.name" .) }}
{{- else }}{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "sluicegate.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* Where the admin API listens: a probe reaches a pod in the host's network by the loopback, and any other pod by its address only. */}}
{{- define "sluicegate.adminAddress" -}}
{{- if .Values.admin.address }}{{ .Values.admin.address }}
{{- else if eq .Values.form "DaemonSet" }}127.0.0.1
{{- else }}0.0.0.0
{{- end }}
{{- end }}

{{- define "sluicegate.adminIsLocal" -}}
{{- $address := include "sluicegate.adminAddress" . }}
{{- if or (hasPrefix "127." $address) (eq "[::1]" $address) }}true{{ end }}
{{- end }}

{{- /* The probes' target. */}}
{{- define "sluicegate.probe" -}}
{{- if include "sluicegate.adminIsLocal" . }}host: {{ include "sluicegate.adminAddress" . | trimPrefix "[" | trimSuffix "]" | quote }}
{{ end }}port: {{ .Values.admin.port }}
{{- if ((.Values.configuration.admin).tls) }}
scheme: HTTPS
{{- end }}
{{- end }}

{{- /* The process's own settings, and objects that are served besides those of the cluster. */}}
{{- define "sluicegate.configuration" -}}
{{- $fields := deepCopy .Values.configuration }}
{{- if .Values.manageAddresses }}{{ $_ := set $fields "manageAddresses" true }}{{ end }}
{{- if .Values.clientAddress.keep }}{{ $_ := set $fields "clientAddress" .Values.clientAddress }}{{ end }}
{{- toYaml (merge (dict "apiVersion" "sluicegate.dev/v1alpha1" "kind" "SluicegateConfiguration") $fields) }}
{{- end }}

{{- /* What does not fit together, which no schema can say. */}}
{{- define "sluicegate.checked" -}}
{{- $local := include "sluicegate.adminIsLocal" . }}
{{- if and $local (eq .Values.form "Deployment") }}
{{- fail "admin.address: a pod of a Deployment has a loopback of its own, where no probe reaches the admin API" }}
{{- end }}
{{- if and $local (or .Values.serviceMonitor.enabled .Values.metricsService.enabled) }}
{{- fail "admin.address: metrics are asked for from outside of the pod, and the admin API listens on the loopback; give it the address \"$(POD_IP)\", and see that only Prometheus reaches it" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.metricsService.enabled) }}
{{- fail "serviceMonitor.enabled needs metricsService.enabled, the Service that it selects" }}
{{- end }}
{{- if and .Values.manageAddresses (eq .Values.form "Deployment") }}
{{- fail "manageAddresses: routes for virtual IPs are the node's; only the form DaemonSet is in the node's network" }}
{{- end }}
{{- if and .Values.clientAddress.keep (eq .Values.form "Deployment") }}
{{- fail "clientAddress.keep: the routes that bring answers back are the node's; only the form DaemonSet is in the node's network" }}
{{- end }}
{{- end }}
